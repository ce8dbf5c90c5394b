"""The exceptions of this package; each also derives from what Python users expect."""

import difflib
from collections.abc import Iterable


class SparsactError(Exception):
    """Base of all errors that the package raises on purpose.

    The message is one line that says what to do. It names an argument as ``name=``, which the
    command line shows as the flag ``--name``.
    """


class InputError(SparsactError, ValueError):
    """The user's data or arguments cannot be used."""


class MissingInputError(InputError, FileNotFoundError):
    """A file or directory that the user named does not exist."""


class OutputError(SparsactError, OSError):
    """A file could not be written."""


class MissingExtraError(SparsactError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that does not exist; it suggests the nearest name that does."""
    choices = list(known)
    hint = suggestion(name, choices, otherwise="choose from " + ", ".join(choices))
    return InputError(f"unknown {kind} {name!r}; {hint}")


def suggestion(name: str, known: Iterable[str], otherwise: str) -> str:
    """``did you mean ...?`` with the known name nearest to `name`, or `otherwise` if none is near.

    Example:
        >>> suggestion("sofshrink", ["relu", "softshrink"], otherwise="see the list")
        "did you mean 'softshrink'?"
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else otherwise
