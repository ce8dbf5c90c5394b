"""Statistics of how sparse the activations of selected modules are, per layer and per unit."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.hooks import (
    Removable,
    Selector,
    Site,
    Taps,
    check_hookable,
    in_backward,
    select_modules,
)
from sparsact.meters.streaming_histogram import Histogram, StreamingHistogram

MAX_FLOAT32_COUNT = 2**24  # float32 holds every integer up to here


@dataclass(frozen=True)
class LayerStats:
    """The statistics of one layer over a window of samples.

    A unit is an index of the unit dim; a sample is one position along all other dims.

    Attributes:
        samples: number of samples seen.
        units: number of units.
        density: share of the entries that are not zero.
        l0: mean number of non-zero units per sample.
        mean_magnitude: mean of ``|x|`` over all entries.
        dead: share of the units that are zero in every sample.
        unit_density: (units,) float64; the share of samples in which each unit is not zero.
        unit_magnitude: (units,) float64; the mean of ``|x|`` of each unit.
        zero_gradient: share of the units whose gradient at the module's input is exactly zero,
            averaged over samples; None without ``gradients=True`` or without a backward.
        histogram: the histogram of the non-zero entries.
    """

    samples: int
    units: int
    density: float
    l0: float
    mean_magnitude: float
    dead: float
    unit_density: Tensor
    unit_magnitude: Tensor
    zero_gradient: float | None
    histogram: Histogram


class SparsityMeter(Removable):
    """Streaming statistics of selected modules, in constant memory.

    Of complex activations the moduli are measured.

    Args:
        model: the model; its code does not change.
        selectors: one selector or several; see :data:`sparsact.hooks.Selector`.
        on: measure the ``"output"`` or the ``"input"`` of each module.
        unit_dim: the dim of the units. By default it is dim 1 of an activation with four dims or
            more (images, volumes), and otherwise the last dim.
        gradients: also count zero gradients at each module's input, in eager mode only.

    Raises:
        ValueError: a selector matches nothing. At a forward: an activation has no dim `unit_dim`.
        RuntimeError: the model is already compiled, or contains an ``nn.DataParallel``.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
        >>> with SparsityMeter(model, "1") as meter:
        ...     _ = model(torch.zeros(16, 4) - 1)
        ...     stats = meter.compute()["1"]
        >>> stats.samples, stats.units
        (16, 8)
    """

    def __init__(
        self,
        model: nn.Module,
        selectors: Selector | Iterable[Selector],
        *,
        on: Site = "output",
        unit_dim: int | None = None,
        gradients: bool = False,
    ) -> None:
        self._model = model
        self._modules = _select_all(model, selectors)
        self._on: Site = on
        self._gradients = gradients
        self.unit_dim = unit_dim
        self._layers = {name: _Layer() for name in self._modules}
        self._taps: list[Taps] = []
        self.attach()

    def compute(self) -> dict[str, LayerStats]:
        """Layer name → statistics of all forwards since the start or the last reset.

        Layers that have not run are omitted.

        Raises:
            RuntimeError: none of the modules has run.
        """
        stats = {name: layer.compute() for name, layer in self._layers.items() if layer.samples}
        if not stats:
            raise RuntimeError("none of the metered modules has run: call the model first")
        return stats

    def reset(self) -> None:
        """Clear the statistics; the hooks remain."""
        self._layers = {name: _Layer() for name in self._layers}

    def attach(self) -> None:
        """Install the hooks again after :meth:`remove`; while they are installed, do nothing.

        Raises:
            RuntimeError: the model is compiled meanwhile, or contains an ``nn.DataParallel``.
        """
        if self._taps:
            return
        check_hookable(self._model)
        self._taps = [Taps(self._modules, self._see, self._on, takes_complex=True)]
        if self._gradients:
            watch = Taps(self._modules, self._watch_gradient, "input", takes_complex=True)
            self._taps.append(watch)

    def remove(self) -> None:
        """Remove the hooks; the statistics so far can still be computed."""
        for taps in self._taps:
            taps.remove()
        self._taps = []

    def watches(self, model: nn.Module) -> bool:
        """Whether all measured modules belong to `model`."""
        return set(self._modules.values()) <= set(model.modules())

    def _see(self, name: str, activation: Tensor) -> None:
        if not in_backward():
            unit_dim = self._find_unit_dim(name, activation)
            self._layers[name].update(activation.detach(), unit_dim)

    def _watch_gradient(self, name: str, activation: Tensor) -> None:
        if activation.requires_grad and not in_backward():
            layer = self._layers[name]
            activation.register_hook(layer.count_gradient)

    def _find_unit_dim(self, name: str, activation: Tensor) -> int:
        if self.unit_dim is None:
            return 1 if activation.ndim >= 4 else -1
        rank = max(activation.ndim, 1)
        if not -rank <= self.unit_dim < rank:
            raise InputError(
                f"unit_dim={self.unit_dim} does not exist at module {name!r}, whose activation has "
                f"shape {tuple(activation.shape)}; omit such modules, or use a second meter for "
                "them"
            )
        return self.unit_dim


class _Layer:
    """Running sums for one layer."""

    def __init__(self) -> None:
        self.samples = 0
        self.active: Tensor | None = None
        self.magnitude: Tensor | None = None
        self.gradients_seen = 0
        self.gradients_zero = 0
        self.histogram = StreamingHistogram()

    def update(self, x: Tensor, unit_dim: int) -> None:
        if x.numel() == 0:
            return
        if x.is_complex():
            x = x.abs()
        if x.ndim < 2:
            x, unit_dim = x.reshape(1, -1), 1
        sample_dims = [dim for dim in range(x.ndim) if dim != unit_dim % x.ndim]
        samples = x.numel() // x.shape[unit_dim]
        size = x.abs()
        magnitude = size.sum(sample_dims, dtype=torch.float64)
        # ones, summed in float32 as long as it counts exactly: faster than count_nonzero
        exact = torch.float32 if samples < MAX_FLOAT32_COUNT else torch.float64
        active = size.ne_(0).sum(sample_dims, dtype=exact).to(torch.int64)
        self.samples += samples
        self.active = active if self.active is None else self.active + active
        self.magnitude = magnitude if self.magnitude is None else self.magnitude + magnitude
        self.histogram.update(x)

    def count_gradient(self, gradient: Tensor) -> None:
        self.gradients_seen += gradient.numel()
        self.gradients_zero += gradient.numel() - int(torch.count_nonzero(gradient))

    def compute(self) -> LayerStats:
        assert self.active is not None
        assert self.magnitude is not None
        unit_density = self.active.cpu().double() / self.samples
        unit_magnitude = self.magnitude.cpu() / self.samples
        units = unit_density.numel()
        density = float(unit_density.mean())
        return LayerStats(
            samples=self.samples,
            units=units,
            density=density,
            l0=density * units,
            mean_magnitude=float(unit_magnitude.mean()),
            dead=float((unit_density == 0).double().mean()),
            unit_density=unit_density,
            unit_magnitude=unit_magnitude,
            zero_gradient=(
                self.gradients_zero / self.gradients_seen if self.gradients_seen else None
            ),
            histogram=self.histogram.compute(),
        )


def _select_all(model: nn.Module, selectors: Selector | Iterable[Selector]) -> dict[str, nn.Module]:
    if isinstance(selectors, (list, tuple, set, frozenset)):
        modules: dict[str, nn.Module] = {}
        for selector in selectors:
            modules.update(select_modules(model, selector))
        return modules
    return select_modules(model, selectors)  # type: ignore[arg-type]
