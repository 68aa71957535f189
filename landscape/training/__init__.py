"""The trainer: one visible loop (`loop`), SAM as a switch on any optimiser (`sam`), a run as a folder (`run`)."""
