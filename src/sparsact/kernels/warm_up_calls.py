"""A small call of every operation: it compiles the kernels ahead of time."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from sparsact.kernels.ops.gather_linear import gather_linear

Call = Callable[[], object]

_ops = torch.ops.sparsact


def _threshold_compress(dtype: torch.dtype) -> Iterator[Call]:
    x, level = torch.randn(64, 64).to(dtype), torch.full((64,), 0.5)
    yield partial(_ops.threshold_compress, x, level)


def _gather_linear(dtype: torch.dtype) -> Iterator[Call]:
    x = torch.randn(2, 256).to(dtype)
    for stored in (torch.float32, torch.bfloat16, torch.int8):
        weight_t, scale = torch.ones(256, 512).to(stored), torch.ones(512)
        yield partial(gather_linear, x, weight_t, 0.5, scale=scale)


def _entries(dtype: torch.dtype, index: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Two entries in each of 64 rows: values, offsets and indices below 32."""
    offsets = torch.arange(0, 130, 2, dtype=index)
    return torch.ones(128, dtype=dtype), offsets, torch.arange(128, dtype=index) % 32


def _csr_linear(dtype: torch.dtype) -> Iterator[Call]:
    for index in (torch.int32, torch.int64):
        entries = _entries(dtype, index)
        yield partial(_ops.csr_linear, *entries, torch.ones(32, 16, dtype=dtype), None)


def _sddmm(dtype: torch.dtype) -> Iterator[Call]:
    for index in (torch.int32, torch.int64):
        _, offsets, indices = _entries(dtype, index)
        left, right = torch.ones(64, 16, dtype=dtype), torch.ones(32, 16, dtype=dtype)
        yield partial(_ops.sddmm, left, right, offsets, indices)


def _csr_weight_grad(dtype: torch.dtype) -> Iterator[Call]:
    for index in (torch.int32, torch.int64):
        entries, dense = _entries(dtype, index), torch.ones(64, 16, dtype=dtype)
        yield partial(_ops.csr_weight_grad, *entries, dense, 32)


def _lasso_gram(dtype: torch.dtype) -> Iterator[Call]:
    atoms, signals = torch.randn(8, 4).to(dtype), torch.randn(2, 4).to(dtype)
    correlation, energy = signals @ atoms.T, signals.square().sum(1)
    tensors = (correlation, atoms @ atoms.T, energy, torch.ones(8).to(dtype))
    yield partial(_ops.lasso_gram, *tensors, torch.zeros_like(correlation), 0.0, False, 9, 1e-6)


def _linear_threshold(dtype: torch.dtype) -> Iterator[Call]:
    x, weight = torch.randn(64, 16).to(dtype), torch.randn(32, 16).to(dtype)
    yield partial(_ops.linear_threshold, x, weight, None, -torch.ones(32), torch.ones(32))


def _linear_topk(dtype: torch.dtype) -> Iterator[Call]:
    x, weight = torch.randn(64, 16).to(dtype), torch.randn(32, 16).to(dtype)
    yield partial(_ops.linear_topk, x, weight, None, 4, None)


def _filter_mirrored(dtype: torch.dtype) -> Iterator[Call]:
    x, taps = torch.randn(8, 16, 4).to(dtype), [0.5, 0.5]
    yield partial(_ops.filter_mirrored, x, taps, taps, 2, 1, 0, 8)


def _filter_transposed(dtype: torch.dtype) -> Iterator[Call]:
    band, taps = torch.randn(8, 16, 4).to(dtype), [0.5, 0.5]
    yield partial(_ops.filter_transposed, band, band, taps, taps, 2, 1, 0, 32)


def _median_above(dtype: torch.dtype) -> Iterator[Call]:
    yield partial(_ops.median_above, torch.randn(64, 64).to(dtype), torch.zeros(64).to(dtype))


def _elementwise(name: str, *extra: object) -> Callable[[torch.dtype], Iterator[Call]]:
    """A threshold with a level per channel; its backward takes the gradient and a tensor."""
    operation = getattr(_ops, name)
    tensors = 2 if name.endswith("_backward") else 1
    levels = 2 if name.startswith("clip") else 1

    def calls(dtype: torch.dtype) -> Iterator[Call]:
        x, level = torch.randn(256, 64).to(dtype), torch.full((64,), 0.5)
        yield partial(operation, *[x] * tensors, *[level] * levels, *extra)

    return calls


# One entry for each operation. Its calls together compile the kernel for the given dtype of the
# first argument; they have enough rows or outputs for two threads.
WARM_UP_CALLS: dict[str, Callable[[torch.dtype], Iterator[Call]]] = {
    "clip": _elementwise("clip"),
    "clip_backward": _elementwise("clip_backward"),
    "csr_linear": _csr_linear,
    "csr_weight_grad": _csr_weight_grad,
    "filter_mirrored": _filter_mirrored,
    "filter_transposed": _filter_transposed,
    "gather_linear": _gather_linear,
    "hardshrink": _elementwise("hardshrink"),
    "hardshrink_backward": _elementwise("hardshrink_backward", 0.05, "rectangle"),
    "lasso_gram": _lasso_gram,
    "linear_threshold": _linear_threshold,
    "linear_topk": _linear_topk,
    "median_above": _median_above,
    "sddmm": _sddmm,
    "softshrink": _elementwise("softshrink"),
    "softshrink_backward": _elementwise("softshrink_backward"),
    "threshold_compress": _threshold_compress,
}
