"""What goes wrong because of what the user gave."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """A mistake in the data or the flags; the message is one line that says what to do."""


class OutputError(OSError):
    """A file that could not be written; the message is one line that says what to do."""


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that does not exist, with the nearest one that does."""
    choices = list(known)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else "choose from " + ", ".join(choices)
    return InputError(f"unknown {kind} {name!r}; {hint}")


@contextmanager
def about_the_input() -> Iterator[None]:
    """A block that only reads what the user gave: what it finds wrong is an InputError."""
    try:
        yield
    except OutputError:
        raise
    except (ValueError, OSError) as error:
        raise InputError(str(error)) from error
