"""A model whose linear layers see zeros where a threshold would skip; on any device."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from weakref import WeakSet

from torch import Tensor, nn

from sparsact.calibration.first_positions import FirstPositions
from sparsact.calibration.sites import InputSite
from sparsact.calibration.token_positions import sequence_readers
from sparsact.hooks import Removable, Taps, check_hookable, version_of

Shrink = Callable[[str, Tensor], Tensor]
"""Takes a site's name and its tensor; returns the tensor with zeros."""


class Simulation(Removable):
    """Puts zeros into the inputs of linear layers until it is removed.

    Args:
        model: the model; its parameters and code stay unchanged.
        sites: the inputs that get zeros.
        shrink: returns a site's tensor with zeros.
        keep_first: number of first tokens of each sequence that stay dense.
    """

    def __init__(
        self, model: nn.Module, sites: Iterable[InputSite], shrink: Shrink, keep_first: int = 0
    ) -> None:
        check_hookable(model)
        self._whole = FirstPositions(keep_first)
        self._last: _Shrunk | None = None
        sites = list(sites)
        site_of = {reader: site.name for site in sites for reader in site.readers}
        readers_of_site = {reader: set(site.readers) for site in sites for reader in site.readers}

        def replace(reader: str, x: Tensor) -> Tensor:
            last, version = self._last, version_of(x)
            if last is None or not last.serves(reader, x, version):
                shrunk = self._whole.restore(x, shrink(site_of[reader], x))
                last = self._last = _Shrunk(x, version, shrunk, readers_of_site[reader].copy())
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


_LIVE: WeakSet[Simulation] = WeakSet()  # its hooks keep a simulation alive until it is removed


def check_dense(model: nn.Module) -> None:
    """Raise RuntimeError where a simulation is active: activations are not the dense model's."""
    if any(simulation.within(model) for simulation in _LIVE):
        raise RuntimeError("a plan is applied to the model: remove that application first")


@dataclass
class _Shrunk:
    """The tensor with zeros that a site's first reader received; its other readers reuse it once.

    Attributes:
        x: the tensor without these zeros.
        version: of `x`, when it was shrunk.
        shrunk: the tensor with zeros.
        readers: layers that have not received it yet.
    """

    x: Tensor
    version: int
    shrunk: Tensor
    readers: set[str]

    def serves(self, reader: str, x: Tensor, version: int) -> bool:
        return self.x is x and self.version == version != -1 and reader in self.readers


def below(thresholds: Mapping[str, Tensor]) -> Shrink:
    """``x·1[|x| > λ]`` with λ in float32; the gradient passes where x does."""

    def shrink(name: str, x: Tensor) -> Tensor:
        threshold = thresholds[name]
        if threshold.device != x.device:
            threshold = threshold.to(x.device)
        return x.masked_fill(x.abs().float() <= threshold, 0)

    return shrink
