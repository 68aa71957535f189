"""Scans of the loss from and for other programs: loss-landscape, Landscaper, ParaView. Without torch."""
