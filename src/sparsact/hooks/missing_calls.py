"""Selected calls that were not seen, and why."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from torch import nn

from sparsact.hooks.call_patterns import CallPattern


def unseen(patterns: Iterable[CallPattern], ran: set[str]) -> list[CallPattern]:
    """Return what was not seen: patterns, with the modules of which no call was seen.

    Args:
        patterns: the patterns.
        ran: the modules and functions that ran.
    """
    parts = []
    for pattern in patterns:
        modules = {name: m for name, m in pattern.modules.items() if name not in ran}
        if modules or (pattern.functions and ran.isdisjoint(pattern.functions)):
            parts.append(replace(pattern, modules=modules))
    return parts


def explain_missing(model: nn.Module, patterns: Iterable[CallPattern]) -> str:
    """Say why calls were not seen, as the end of a message; empty if there are none."""
    reasons = [reason for pattern in patterns for reason in _reasons(model, pattern)]
    shown = "; ".join(reasons[:5]) + (f"; and {len(reasons) - 5} more" if len(reasons) > 5 else "")
    return f" ({shown})" if shown else ""


def _reasons(model: nn.Module, pattern: CallPattern) -> Iterator[str]:
    if not pattern.modules:
        yield f"no call of {pattern.text} was seen; sparsact.activations() lists the calls"
    present = dict(model.named_modules(remove_duplicate=False))
    for name, module in pattern.modules.items():
        parent = present.get(name.rpartition(".")[0])
        if present.get(name) is not module:
            yield f"{name!r} was replaced in the model after the hooks were installed"
        elif isinstance(parent, nn.MultiheadAttention):
            yield f"{name!r} is never called: nn.MultiheadAttention uses its weight directly"
        else:
            yield f"{name!r} did not run"


def replaced_modules(model: nn.Module, patterns: Iterable[CallPattern]) -> list[str]:
    """Return the names of selected modules that are no longer in the model."""
    present = dict(model.named_modules(remove_duplicate=False))
    return [
        name
        for pattern in patterns
        for name, module in pattern.modules.items()
        if present.get(name) is not module
    ]
