"""Statistics of how sparse the activations of selected modules are, per layer and per unit."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsact._common.devices import widest_float
from sparsact._common.errors import InputError
from sparsact.hooks import (
    CallSelector,
    CallTaps,
    Removable,
    Site,
    call_patterns,
    explain_missing,
    guessed_channel_dim,
    in_backward,
    is_made_into_a_program,
    outside_of_vmap,
    unseen,
)
from sparsact.meters.streaming_histogram import Histogram, StreamingHistogram

MAX_FLOAT32_COUNT = 2**24  # float32 holds every integer up to here


_NOTHING_TO_MEASURE = (
    " (since the last reset; forwards of torch.export and torch.jit.trace, empty tensors, and "
    "tensors on the meta device give nothing to measure)"
)


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
    """Streaming statistics of selected activations, in constant memory.

    Each call site has its own statistics: the second call of ``block.act`` within one forward of
    the modules around it is ``block.act#2``. A call that several selectors select counts once.
    Measuring changes no result of the model.

    Of complex activations the moduli are measured. Under ``torch.func.vmap`` all examples count.
    Programs of ``torch.export`` and ``torch.jit.trace`` contain no meter.

    Args:
        model: the model; its code does not change.
        selectors: one selector of modules or calls, or several; see
            :data:`sparsact.hooks.CallSelector`. :func:`sparsact.activations` lists what there is.
        on: measure the ``"output"`` or the ``"input"`` of each call.
        unit_dim: the dim of the units. By default it is the channel dim of a selected
            :class:`~sparsact.CallSite`, and else dim 1 of an activation with four dims or more
            (images, volumes), and otherwise the last dim.
        gradients: also count zero gradients at the input of each call, in eager mode only.

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
        selectors: CallSelector | Iterable[CallSelector],
        *,
        on: Site = "output",
        unit_dim: int | None = None,
        gradients: bool = False,
    ) -> None:
        self._model = model
        self._patterns = call_patterns(model, selectors)
        self.unit_dim = unit_dim
        self._layers: dict[str, _Layer] = {}
        self._selected_by: dict[str, int] = {}
        self._has_warned = False
        self._taps = [CallTaps(model, self._patterns, self._see, on)]
        if gradients:
            watch = self._watch_gradient
            self._taps.append(CallTaps(model, self._patterns, watch, "input"))

    def compute(self) -> dict[str, LayerStats]:
        """Call site → statistics of all forwards since the start or the last reset.

        Sites that have not run are omitted; those that never ran are named in a warning, once.

        Raises:
            RuntimeError: none of the selected calls has run.
        """
        stats = {name: layer.compute() for name, layer in self._layers.items() if layer.samples}
        missing = unseen(self._patterns, self._taps[0].ran)
        if not stats:
            explanation = explain_missing(self._model, missing) or _NOTHING_TO_MEASURE
            raise RuntimeError(
                f"none of the metered calls has run: call the model first{explanation}"
            )
        if missing and not self._has_warned:
            self._has_warned = True
            explanation = explain_missing(self._model, missing)
            warnings.warn(f"the meter saw a part of what it names{explanation}", stacklevel=2)
        return stats

    def reset(self) -> None:
        """Clear the statistics; the hooks remain."""
        self._layers.clear()

    def attach(self) -> None:
        """Install the hooks again after :meth:`remove`; while they are installed, do nothing.

        Raises:
            RuntimeError: the model is compiled meanwhile, or contains an ``nn.DataParallel``.
        """
        for taps in self._taps:
            taps.attach()

    def remove(self) -> None:
        """Remove the hooks; the statistics so far can still be computed."""
        for taps in self._taps:
            taps.remove()

    def watches(self, model: nn.Module) -> bool:
        """Whether the meter is on `model`, on a part of it, or on a model that contains it."""
        return self._taps[0].watches(model)

    def _see(self, site: str, index: int, activation: Tensor) -> None:
        if self._counts(site, index):
            unit_dim = self._find_unit_dim(site, index, activation)
            update = self._layer(site).update
            if torch.compiler.is_compiling():  # it depends on data: it would be compiled every time
                update = torch.compiler.disable(update)
            update(site, activation.detach(), unit_dim)

    def _watch_gradient(self, site: str, index: int, activation: Tensor) -> None:
        if activation.requires_grad and self._counts(site, index):
            activation.register_hook(self._layer(site).count_gradient)

    def _counts(self, site: str, index: int) -> bool:
        """Whether a call counts: not in a second forward of a checkpoint, and for one selector."""
        if in_backward() or is_made_into_a_program():
            return False
        return self._selected_by.setdefault(site, index) == index

    def _layer(self, site: str) -> "_Layer":
        return self._layers.setdefault(site, _Layer())

    def _find_unit_dim(self, site: str, index: int, activation: Tensor) -> int:
        unit_dim = self.unit_dim
        if unit_dim is None:
            unit_dim = self._patterns[index].channel_dim
        if unit_dim is None:
            return guessed_channel_dim(activation)
        rank = max(activation.ndim, 1)
        if not -rank <= unit_dim < rank:
            raise InputError(
                f"unit_dim={unit_dim} does not exist at {site!r}, whose activation has shape "
                f"{tuple(activation.shape)}; omit such calls, or use a second meter for them"
            )
        return unit_dim


class _Layer:
    """Running sums for one layer."""

    def __init__(self) -> None:
        self.samples = 0
        self.active: Tensor | None = None
        self.magnitude: Tensor | None = None
        self.gradients_seen = 0
        self.gradients_zero: int | Tensor = 0  # a tensor stays on its device
        self.histogram = StreamingHistogram()
        self.has_warned = False

    def update(self, site: str, x: Tensor, unit_dim: int) -> None:
        x, unit_dim = outside_of_vmap(x, unit_dim)
        if x.numel() == 0 or x.is_meta:
            return
        if x.is_complex():
            x = x.abs()
        if x.ndim < 2:
            x, unit_dim = x.reshape(1, -1), 1
        if self.active is not None and x.shape[unit_dim] != self.active.numel():
            self._omit(site, x.shape[unit_dim])
            return
        sample_dims = [dim for dim in range(x.ndim) if dim != unit_dim % x.ndim]
        samples = x.numel() // x.shape[unit_dim]
        size = x.abs()
        widest = widest_float(x.device)
        magnitude = size.sum(sample_dims, dtype=widest)
        # ones, summed in float32 as long as it counts exactly: faster than count_nonzero
        few = samples < MAX_FLOAT32_COUNT
        exact = torch.float32 if few else torch.int64 if widest == torch.float32 else widest
        active = size.ne_(0).sum(sample_dims, dtype=exact).to(torch.int64)
        self.samples += samples
        self.active = active if self.active is None else self.active + active
        self.magnitude = magnitude if self.magnitude is None else self.magnitude + magnitude
        self.histogram.update(x)

    def _omit(self, site: str, units: int) -> None:
        """Leave out a call with another number of units; warn once."""
        assert self.active is not None
        if not self.has_warned:
            self.has_warned = True
            warnings.warn(
                f"{site!r} had {self.active.numel()} units, and now has {units}: the meter leaves "
                "out calls of another width; set unit_dim= to the dim whose size stays the same",
                stacklevel=2,
            )

    def count_gradient(self, gradient: Tensor) -> None:
        gradient, _ = outside_of_vmap(gradient, -1)
        self.gradients_seen += gradient.numel()
        zero = gradient.numel() - torch.count_nonzero(gradient)
        self.gradients_zero = self.gradients_zero + zero  # not in place, as the sums above

    def compute(self) -> LayerStats:
        assert self.active is not None
        assert self.magnitude is not None
        unit_density = self.active.cpu().double() / self.samples
        unit_magnitude = self.magnitude.cpu().double() / self.samples
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
                int(self.gradients_zero) / self.gradients_seen if self.gradients_seen else None
            ),
            histogram=self.histogram.compute(),
        )
