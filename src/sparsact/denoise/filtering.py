"""The two linear maps of a filter bank along one dim, each the other's transpose.

Shifted copies are added up tap by tap. On two CPU cores that is 2–10 times as fast as
``conv2d`` on one channel, whose fast kernels are made for many channels.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from sparsact.denoise.filters import Taps


class Geometry(NamedTuple):
    """How coefficient k, tap j and sample q meet: ``q = k·stride + j·dilation − start``.

    Attributes:
        dim: the dim that is filtered, counted from the front.
        stride: 1, or 2 with a dilation of 1.
        dilation: distance of the taps.
        start: samples to the left of the first, taken as zeros; a multiple of the stride.
        samples: length of the signal.
        coefficients: length of each of the two bands.
    """

    dim: int
    stride: int
    dilation: int
    start: int
    samples: int
    coefficients: int


def analyse(x: Tensor, taps: tuple[Taps, Taps], geometry: Geometry) -> tuple[Tensor, Tensor]:
    """Both bands of a signal: ``band[k] = Σ_j taps[j]·x[k·stride + j·dilation − start]``."""
    low, high = _Analyse.apply(x, taps, geometry)
    return low, high


def synthesise(low: Tensor, high: Tensor, taps: tuple[Taps, Taps], geometry: Geometry) -> Tensor:
    """The transpose of :func:`analyse`: each coefficient spreads its taps over the signal."""
    signal: Tensor = _Synthesise.apply(low, high, taps, geometry)
    return signal


class _Analyse(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor, taps: tuple[Taps, Taps], geometry: Geometry
    ) -> tuple[Tensor, Tensor]:
        block = _as_block(x, geometry)
        phases = [block[:, p :: geometry.stride].contiguous() for p in range(geometry.stride)]
        bands = []
        for filter_taps in taps:
            band = block.new_zeros((len(block), geometry.coefficients, block.shape[2]))
            for tap, p, q, k, count in _meetings(filter_taps, geometry):
                band[:, k : k + count].add_(phases[p][:, q : q + count], alpha=tap)
            bands.append(_from_block(band, x, geometry))
        return bands[0], bands[1]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        _, ctx.taps, ctx.geometry = inputs

    @staticmethod
    def backward(ctx: Any, low: Tensor, high: Tensor) -> tuple[Tensor, None, None]:
        return _Synthesise.apply(low, high, ctx.taps, ctx.geometry), None, None


class _Synthesise(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        low: Tensor, high: Tensor, taps: tuple[Taps, Taps], geometry: Geometry
    ) -> Tensor:
        blocks = [_as_block(band, geometry) for band in (low, high)]
        rows, columns = len(blocks[0]), blocks[0].shape[2]
        lengths = [_phase_length(p, geometry) for p in range(geometry.stride)]
        phases = [blocks[0].new_zeros((rows, length, columns)) for length in lengths]
        for band, filter_taps in zip(blocks, taps, strict=True):
            for tap, p, q, k, count in _meetings(filter_taps, geometry):
                phases[p][:, q : q + count].add_(band[:, k : k + count], alpha=tap)
        if geometry.stride == 1:
            return _from_block(phases[0], low, geometry)
        signal = blocks[0].new_empty((rows, geometry.samples, columns))
        for p, phase in enumerate(phases):
            signal[:, p :: geometry.stride] = phase
        return _from_block(signal, low, geometry)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        _, _, ctx.taps, ctx.geometry = inputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        return *_Analyse.apply(grad, ctx.taps, ctx.geometry), None, None


def _meetings(taps: Taps, geometry: Geometry) -> Iterator[tuple[float, int, int, int, int]]:
    """Per tap: its value, the phase it reads, and the runs of samples and coefficients that meet."""
    stride = geometry.stride
    for j, tap in enumerate(taps):
        if tap == 0:
            continue
        phase = j % stride
        offset = j // stride * geometry.dilation - geometry.start // stride
        first = max(0, -offset)
        last = min(geometry.coefficients, _phase_length(phase, geometry) - offset)
        if first < last:
            yield tap, phase, first + offset, first, last - first


def _phase_length(phase: int, geometry: Geometry) -> int:
    return (geometry.samples - phase + geometry.stride - 1) // geometry.stride


def _as_block(x: Tensor, geometry: Geometry) -> Tensor:
    """(everything before, the dim, everything after)."""
    shape = x.shape
    before, after = shape[: geometry.dim], shape[geometry.dim + 1 :]
    return x.reshape(before.numel(), shape[geometry.dim], after.numel())


def _from_block(block: Tensor, like: Tensor, geometry: Geometry) -> Tensor:
    shape = list(like.shape)
    shape[geometry.dim] = block.shape[1]
    return block.reshape(shape)


def extend(x: Tensor, dim: int, left: int, right: int) -> Tensor:
    """Mirror a signal at both borders, the border sample included, as often as it takes."""
    size = x.shape[dim]
    if max(left, right) <= size:
        head = x.narrow(dim, 0, left).flip(dim)
        tail = x.narrow(dim, size - right, right).flip(dim)
        return torch.cat([head, x, tail], dim)
    index = torch.arange(-left, size + right, device=x.device).remainder(2 * size)
    return x.index_select(dim, torch.where(index < size, index, 2 * size - 1 - index))
