"""The error for a name that does not exist."""

import difflib
from collections.abc import Iterable


def unknown(what: str, name: str, known: Iterable[str]) -> ValueError:
    """A ValueError with the nearest name that does exist."""
    choices = list(known)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else "choose from " + ", ".join(choices)
    return ValueError(f"unknown {what} {name!r}; {hint}")
