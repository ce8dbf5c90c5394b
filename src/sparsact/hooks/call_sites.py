"""Call sites of activations: what is known of each, and the table that lists them."""

import html
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import torch


@dataclass(frozen=True)
class CallSite:
    """A place in a model's forward where an activation is computed.

    Attributes:
        base: the dotted name of the module, or of the function such as ``block.relu()``.
        number: which call it is within one forward of the modules around it, from 1.
        activation: the type of the module, or the name of the function.
        calls: how often it ran in one forward of the model.
        shape: the shape of the output, of the first call.
        dtype: its dtype.
        channel_dim: the dim of the channels, 1 or -1 as a rule: that of the layer before.
        density: share of the entries that are not zero, over all calls; NaN on the meta device.
        seen_when_compiled: False for a call such as ``torch.relu_(x)``, which ``torch.compile``
            computes without showing it; ``x.relu_()`` is shown.
        call: the module, or the function with its options, as a callable of one tensor.
    """

    base: str
    number: int
    activation: str
    calls: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    channel_dim: int
    density: float
    seen_when_compiled: bool
    call: Callable[[Any], Any] = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """The name by which the site is selected, such as ``layer1.0.relu#2``."""
        return site_name(self.base, self.number)

    @property
    def channels(self) -> int:
        """The number of channels."""
        return self.shape[self.channel_dim] if self.shape else 1


class CallSites(Sequence[CallSite]):
    """The activations of a model, in the order of their first calls; prints as a table.

    Attributes:
        remarks: one line for each part of the model whose activations cannot be seen.
    """

    def __init__(self, sites: Iterable[CallSite], remarks: Iterable[str] = ()) -> None:
        self._sites = tuple(sites)
        self.remarks = tuple(remarks)

    @overload
    def __getitem__(self, key: int) -> CallSite: ...
    @overload
    def __getitem__(self, key: str) -> CallSite: ...
    @overload
    def __getitem__(self, key: slice) -> "CallSites": ...
    def __getitem__(self, key: int | str | slice) -> "CallSite | CallSites":
        """A site by its position or its name, or several by a slice."""
        if isinstance(key, slice):
            return CallSites(self._sites[key], self.remarks)
        if isinstance(key, int):
            return self._sites[key]
        for site in self._sites:
            if site.name == key:
                return site
        raise KeyError(key)

    def __len__(self) -> int:
        return len(self._sites)

    def __iter__(self) -> Iterator[CallSite]:
        return iter(self._sites)

    def __str__(self) -> str:
        """The table, and what cannot be seen."""
        rows = [_HEAD, *map(_row, self._sites)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
        lines = [
            "  ".join(
                cell.rjust(width) if column in _NUMBERS else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        return "\n".join([*lines, *self.remarks])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """The table in a notebook."""
        head = "".join(f"<th>{html.escape(name)}</th>" for name in _HEAD)
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in _row(site)) + "</tr>"
            for site in self._sites
        )
        remarks = "".join(f"<p>{html.escape(remark)}</p>" for remark in self.remarks)
        return f"<table><tr>{head}</tr>{rows}</table>{remarks}"


def site_name(base: str, number: int) -> str:
    """Return the name of a call site, such as ``block.act`` or ``block.act#2``."""
    return base if number == 1 else f"{base}#{number}"


_HEAD = ("name", "activation", "calls", "shape", "channel dim", "channels", "density")
_NUMBERS = (2, 4, 5, 6)


def _row(site: CallSite) -> tuple[str, ...]:
    shape = " × ".join(map(str, site.shape))
    numbers = (str(site.channel_dim), str(site.channels), f"{site.density:.3f}")
    return (site.name, site.activation, str(site.calls), shape, *numbers)
