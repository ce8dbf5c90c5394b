"""A model whose linear layers see zeros where a threshold would skip; on any device."""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from sparsact.calibration.batches import as_tokens_of
from sparsact.calibration.sites import InputSite
from sparsact.calibration.token_positions import (
    Counts,
    count_tokens,
    named_inputs,
    sequence_readers,
    token_positions,
)
from sparsact.hooks import Removable, Taps, check_hookable, version_of

Shrink = Callable[[str, Tensor], Tensor]
"""Takes a site's name and its tensor; gives the tensor with zeros."""


class Simulation(Removable):
    """Puts zeros into the inputs of linear layers, until it is removed.

    Args:
        model: the model; its parameters and code stay as they are.
        sites: where.
        shrink: what is done there.
        keep_first: so many first tokens of each sequence are left whole.
    """

    def __init__(
        self, model: nn.Module, sites: Iterable[InputSite], shrink: Shrink, keep_first: int = 0
    ) -> None:
        check_hookable(model)
        self._whole = FirstPositions(keep_first)
        self._last: _Shrunk | None = None
        sites = list(sites)
        site_of = {reader: site.name for site in sites for reader in site.readers}
        others = {reader: set(site.readers) for site in sites for reader in site.readers}

        def replace(reader: str, x: Tensor) -> Tensor:
            last, version = self._last, version_of(x)
            if last is None or not last.serves(reader, x, version):
                shrunk = self._whole.restore(x, shrink(site_of[reader], x))
                last = self._last = _Shrunk(x, version, shrunk, others[reader].copy())
            last.readers.discard(reader)
            return last.shrunk

        readers = {name: model.get_submodule(name) for name in site_of}
        self._readers = set(readers.values())
        self._taps = Taps(readers, replace, "input")
        if keep_first:
            for reader in sequence_readers(model):
                self._taps.around(reader, self._whole.start, self._whole.end)
        _LIVE.add(self)

    def within(self, model: nn.Module) -> bool:
        """Whether it puts zeros into this model."""
        return not self._readers.isdisjoint(model.modules())

    def remove(self) -> None:
        """Take the hooks away."""
        _LIVE.discard(self)
        self._taps.remove()
        self._last = None


_LIVE: WeakSet[Simulation] = WeakSet()  # a hook holds its own, until that is removed


def check_dense(model: nn.Module) -> None:
    """Raise RuntimeError where a simulation is at work: activations are not the dense model's."""
    if any(simulation.within(model) for simulation in _LIVE):
        raise RuntimeError("a plan is applied to the model: remove that application first")


@dataclass
class _Shrunk:
    """What a site's first reader got, for each of its others to take once."""

    x: Tensor
    version: int
    shrunk: Tensor
    readers: set[str]

    def serves(self, reader: str, x: Tensor, version: int) -> bool:
        return self.x is x and self.version == version != -1 and reader in self.readers


class FirstPositions(threading.local):
    """Which rows of an activation belong to the first tokens of a sequence, for each thread.

    What a model attends to when it has nothing to attend to ("attention sinks") are its first
    tokens; their activations are much larger than all others.
    """

    def __init__(self, keep_first: int) -> None:
        self.keep_first = keep_first
        self.first: Tensor | None = None  # of the forward that this thread is in
        self._encoded: tuple[Tensor, Tensor] | None = None  # an encoder's output, and its first
        self._began: tuple[dict[str, Any], Tensor] | None = None  # its inputs and positions
        self._counts: Counts = Counts()

    def __reduce__(self) -> tuple[type["FirstPositions"], tuple[int]]:
        """A copy is in no forward."""
        return FirstPositions, (self.keep_first,)

    def start(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Find them from a forward's inputs."""
        inputs = named_inputs(module, args, kwargs)
        positions = token_positions(inputs, self._counts, args[0] if args else None)
        self._began = inputs, positions
        self.first = self._among(positions)
        encoded = inputs.get("encoder_hidden_states")
        if self.first is not None and isinstance(encoded, Tensor) and encoded.ndim == 3:
            source = {"inputs_embeds": encoded}
            if "encoder_attention_mask" in inputs:
                source["attention_mask"] = inputs["encoder_attention_mask"]
            first = self._among(token_positions(source, self._counts))
            self._encoded = None if first is None else (encoded, first)

    def _among(self, positions: Tensor) -> Tensor | None:
        first = (positions >= 0) & (positions < self.keep_first)
        return first if bool(first.any()) else None

    def end(self, module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        """The forward is over; its output is None where it failed."""
        if self._began is not None and output is not None:
            inputs, positions = self._began
            count_tokens(inputs, output, self._counts, positions)
        self.first = self._encoded = self._began = None

    def restore(self, x: Tensor, shrunk: Tensor) -> Tensor:
        """`shrunk`, with the rows of the first tokens taken from `x`."""
        first = self.first
        if self._encoded is not None and x is self._encoded[0]:
            first = self._encoded[1]
        first = None if first is None else as_tokens_of(x, first)
        if first is None:
            return shrunk
        return torch.where(first.view(*x.shape[:-1], 1), x, shrunk)


def below(thresholds: Mapping[str, Tensor]) -> Shrink:
    """``x·1[|x| > λ]`` with λ in float32; the gradient passes where x does."""

    def shrink(name: str, x: Tensor) -> Tensor:
        level = thresholds[name]
        if level.device != x.device:
            level = level.to(x.device)
        return x.masked_fill(x.abs().float() <= level, 0)

    return shrink
