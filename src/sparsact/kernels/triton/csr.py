"""Products with compressed sparse rows: a decoder, and its two gradients."""

from functools import partial
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparsact.kernels.reference.csr_reference import check_entries, check_shape
from sparsact.kernels.triton.csr_kernels import multiply_at_entries, sum_entries
from sparsact.kernels.triton.tuning import Choice, about, run_fastest

_BLOCKS: list[Choice] = [
    {"BLOCK": block, "num_warps": block // 128} for block in (512, 256, 128, 1024)
]
_AHEAD = 4  # lines of the weight that are loaded at once
_WIDEST = 1024  # columns that `sddmm` multiplies at once
_ENTRIES = 16  # of one program of `sddmm`, about


def csr_linear(
    values: Tensor, offsets: Tensor, indices: Tensor, weight_t: Tensor, bias: Tensor | None
) -> Tensor:
    """Sum the indexed weight rows, times their values, for each row; and add the bias."""
    check_entries(values, indices)
    if bias is not None:
        check_shape(bias, "bias", weight_t.shape[1:])
    return _product("csr_linear", values, offsets, indices, weight_t, bias)


def sddmm(left: Tensor, right: Tensor, offsets: Tensor, indices: Tensor) -> Tensor:
    """Compute the entries of ``left @ right.T`` at the places of the structure."""
    rows, (features, width) = len(offsets) - 1, right.shape
    check_shape(left, "left", (rows, width))
    out = left.new_full(indices.shape, torch.nan)  # entries of no row
    if not out.numel() or not rows:
        return out
    block = min(triton.next_power_of_2(max(width, 16)), _WIDEST)
    programs = triton.next_power_of_2(triton.cdiv(len(indices), rows * _ENTRIES))
    programs = min(programs, 1024)
    multiply_at_entries[(rows, programs)](
        *(left.contiguous(), right.contiguous(), offsets.contiguous(), indices.contiguous(), out),
        *(rows, len(indices), features, width),
        WIDE=_wide(left),
        BLOCK=block,
        PROGRAMS=programs,
        num_warps=max(1, block // 256),
        enable_fp_fusion=True,
    )
    return out


def csr_weight_grad(
    values: Tensor, offsets: Tensor, indices: Tensor, dense: Tensor, features: int
) -> Tensor:
    """Multiply the transposed sparse matrix by `dense`: sort by feature, then multiply."""
    check_entries(values, indices)
    check_shape(dense, "dense", (len(offsets) - 1, dense.shape[1]))
    columns, order = indices.sort(stable=True)
    rows = torch.searchsorted(offsets.to(order.dtype).contiguous(), order, right=True) - 1
    edges = torch.arange(features + 1, device=indices.device, dtype=columns.dtype)
    starts = torch.searchsorted(columns, edges)
    unsound = (offsets.diff() < 0).any() | (offsets[-1] != len(indices))
    sorted_values = values[order].masked_fill(unsound, torch.nan)
    return _product("csr_weight_grad", sorted_values, starts, rows, dense, None)


def _product(
    name: str,
    values: Tensor,
    offsets: Tensor,
    indices: Tensor,
    weight_t: Tensor,
    bias: Tensor | None,
) -> Tensor:
    rows, (features, width) = len(offsets) - 1, weight_t.shape
    out = weight_t.new_empty((rows, width))
    if not out.numel():
        return out
    operands = (
        *(values.contiguous(), offsets.contiguous(), indices.contiguous()),
        *(weight_t.contiguous(), out if bias is None else bias.contiguous(), out),
        *(rows, len(indices), features, width),
    )
    mean = len(indices) // rows
    shape = (about(rows), about(mean), width, weight_t.dtype)
    run = partial(_launch, operands, bias is not None, out)
    run_fastest(name, shape, _BLOCKS, run, out.device)
    return out


def _launch(operands: tuple[Any, ...], has_bias: bool, out: Tensor, choice: Choice) -> None:
    rows, width = out.shape
    sum_entries[(rows, triton.cdiv(width, choice["BLOCK"]))](
        *operands,
        HAS_BIAS=has_bias,
        WIDE=_wide(out),
        AHEAD=_AHEAD,
        **choice,
        enable_fp_fusion=True,
    )


def _wide(tensor: Tensor) -> tl.dtype:
    """The dtype of sums."""
    return tl.float64 if tensor.dtype == torch.float64 else tl.float32
