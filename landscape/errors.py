"""The one kind of error that is the user's to mend.

Every message names the argument, its value, what is legal and what to do; the command line shows it
as one line and exits with code 2.
"""


class InputError(ValueError):
    """Bad input: an argument out of range, an unreadable file, data that is not what it should be."""


class UndefinedError(InputError):
    """What was asked for has no meaning for this model, loss or data, where it may have one for others."""


def illegal(argument: str, value: object, legal: str, remedy: str) -> InputError:
    """The standard sentence: `argument = value is not legal; it must be legal. remedy.`"""
    shown = repr(value)
    shown = shown if len(shown) <= 200 else shown[:197] + "..."
    return InputError(f"{argument} = {shown} is not legal: it must be {legal}. {remedy}")
