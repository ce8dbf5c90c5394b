"""The analysis and the synthesis of a filter bank along one dim; each is the other's transpose.

Shifted copies are added up tap by tap: on two CPU cores that is faster than ``conv2d``, whose fast
kernels are made for many channels. Without gradients, compiled loops do it in one pass.
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.autograd import Function

from sparsact.denoise.wavelet_filters import Taps
from sparsact.kernels.cpu import library
from sparsact.thresholds.arguments import values_can_be_read

Border = Literal["mirror", "periodic", "zero", "constant"]
BORDERS = get_args(Border)


class Geometry(NamedTuple):
    """How coefficient k, tap j and sample q meet: ``q = k·stride + j·dilation − start``.

    Attributes:
        dim: the filtered dim, counted from the front; not the first dim, which holds bands.
        stride: 1, or 2 with a dilation of 1.
        dilation: distance between taps.
        start: number of zeros assumed before the first sample; a multiple of the stride.
        samples: length of the signal.
        coefficients: length of each of the two bands.
    """

    dim: int
    stride: int
    dilation: int
    start: int
    samples: int
    coefficients: int


def analyse(x: Tensor, taps: tuple[Taps, Taps], geometry: Geometry) -> Tensor:
    """``band[k] = Σ_j taps[j]·x[k·stride + j·dilation − start]``, zeros beyond the ends of x.

    Returns:
        the low-pass bands of x (K, …), then its high-pass bands: (2K, …).
    """
    bands: Tensor = _Analyse.apply(x, taps, geometry)
    return bands


def analyse_continued(
    x: Tensor,
    taps: tuple[Taps, Taps],
    dim: int,
    coefficients: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    left: int,
    border: Border = "mirror",
) -> Tensor:
    """Like :func:`analyse`, but the signal continues as far as its coefficients reach.

    Args:
        x: (K, …).
        taps: low-pass and high-pass.
        dim: the filtered dim.
        coefficients: length of each band.
        stride: as in `Geometry`.
        dilation: as in `Geometry`.
        left: number of samples before the first.
        border: how the signal continues, as in :func:`extend`.
    """
    reach = (coefficients - 1) * stride + (len(taps[0]) - 1) * dilation + 1
    if border != "mirror":
        x, left = extend(x, dim, left, reach - left - x.shape[dim], border), 0
    if is_compiled(x):
        block = _as_block(x, dim)
        bands: Tensor = torch.ops.sparsact.filter_mirrored(
            block, *taps, stride, dilation, left, coefficients
        )
        return bands.view(2 * x.shape[0], *x.shape[1:dim], coefficients, *x.shape[dim + 1 :])
    extended = extend(x, dim, left, reach - left - x.shape[dim])
    return analyse(extended, taps, Geometry(dim, stride, dilation, 0, reach, coefficients))


def synthesise(low: Tensor, high: Tensor, taps: tuple[Taps, Taps], geometry: Geometry) -> Tensor:
    """The transpose of :func:`analyse`: each coefficient spreads its taps over the signal."""
    if is_compiled(low) and is_compiled(high):
        dim, stride, dilation, start, samples, _ = geometry
        blocks = _as_block(low, dim), _as_block(high, dim)
        joined: Tensor = torch.ops.sparsact.filter_transposed(
            *blocks, *taps, stride, dilation, start, samples
        )
        return joined.view(*low.shape[:dim], samples, *low.shape[dim + 1 :])
    signal: Tensor = _Synthesise.apply(low, high, taps, geometry)
    return signal


def is_compiled(x: Tensor) -> bool:
    """Whether a compiled kernel, which has no gradient, can replace plain torch here."""
    differentiated = torch.is_grad_enabled() and x.requires_grad
    return (
        x.dtype in (torch.float32, torch.float64)
        and not differentiated
        and values_can_be_read(x)
        and library.is_built()
    )


class _Analyse(Function):
    @staticmethod
    def forward(x: Tensor, taps: tuple[Taps, Taps], geometry: Geometry) -> Tensor:
        shape = list(x.shape)
        shape[0] *= 2
        shape[geometry.dim] = geometry.coefficients
        bands = x.new_empty(shape)
        block = _as_block(x, geometry.dim)
        phases = [block[:, p :: geometry.stride] for p in range(geometry.stride)]
        if block.shape[2] == 1:  # single samples side by side: gather each phase once
            phases = [phase.contiguous() for phase in phases]
        for band, filter_taps in zip(bands.chunk(2), taps, strict=True):
            terms = [
                (tap, phases[p].narrow(1, q, count), k)
                for tap, p, q, k, count in _meetings(filter_taps, geometry)
            ]
            _add_up(terms, _as_block(band, geometry.dim))
        return bands

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        _, ctx.taps, ctx.geometry = inputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        low, high = grad.chunk(2)
        return _Synthesise.apply(low, high, ctx.taps, ctx.geometry), None, None


class _Synthesise(Function):
    @staticmethod
    def forward(low: Tensor, high: Tensor, taps: tuple[Taps, Taps], geometry: Geometry) -> Tensor:
        shape = list(low.shape)
        shape[geometry.dim] = geometry.samples
        signal = low.new_empty(shape)
        block = _as_block(signal, geometry.dim)
        meetings = [
            (p, (tap, band.narrow(1, k, count), q))
            for band, filter_taps in zip(
                (_as_block(low, geometry.dim), _as_block(high, geometry.dim)), taps, strict=True
            )
            for tap, p, q, k, count in _meetings(filter_taps, geometry)
        ]
        for phase in range(geometry.stride):
            target = block[:, phase :: geometry.stride]
            total = target.contiguous() if block.shape[2] == 1 else target
            _add_up([term for p, term in meetings if p == phase], total)
            if total is not target:
                target.copy_(total)
        return signal

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        _, _, ctx.taps, ctx.geometry = inputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        low, high = _Analyse.apply(grad, ctx.taps, ctx.geometry).chunk(2)
        return low, high, None, None


def _add_up(terms: list[tuple[float, Tensor, int]], total: Tensor) -> None:
    """``total = Σ factor·part``, where each part begins at its place along dim 1."""
    covering = next((i for i, (_, part, _) in enumerate(terms) if part.shape == total.shape), None)
    if covering is None:
        total.zero_()
    else:
        factor, part, _ = terms.pop(covering)
        torch.mul(part, factor, out=total)
    for factor, part, place in terms:
        total.narrow(1, place, part.shape[1]).add_(part, alpha=factor)


def _meetings(taps: Taps, geometry: Geometry) -> Iterator[tuple[float, int, int, int, int]]:
    """For each tap: its value, the phase of its samples, both first indices, and their number."""
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


def _as_block(x: Tensor, dim: int) -> Tensor:
    """`x` as (all dims before, the dim, all dims after)."""
    shape = x.shape
    return x.reshape(shape[:dim].numel(), shape[dim], shape[dim + 1 :].numel())


def extend(x: Tensor, dim: int, left: int, right: int, border: Border = "mirror") -> Tensor:
    """Continue a signal at both ends.

    Args:
        x: the signals.
        dim: the dim along which they are continued.
        left: number of samples before the first.
        right: number of samples after the last.
        border: ``"mirror"`` repeats the end sample, then the one before it, and so on;
            ``"periodic"`` goes on at the other end, ``"constant"`` repeats the end sample, and
            ``"zero"`` adds zeros.
    """
    size = x.shape[dim]
    if border == "mirror" and max(left, right) <= size:
        head = x.narrow(dim, 0, left).flip(dim)
        tail = x.narrow(dim, size - right, right).flip(dim)
        return torch.cat([head, x, tail], dim)
    index = torch.arange(-left, size + right, device=x.device)
    if border == "mirror":
        index = index.remainder(2 * size)
        index = torch.where(index < size, index, 2 * size - 1 - index)
    elif border == "periodic":
        index = index.remainder(size)
    extended = x.index_select(dim, index.clamp(0, size - 1))
    if border != "zero":
        return extended
    inside = (index >= 0) & (index < size)
    return extended * inside.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1 - dim % x.ndim))
