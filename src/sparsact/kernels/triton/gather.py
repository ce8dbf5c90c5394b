"""Linear layers that skip inactive inputs: a few rows by Triton, many by a dense product."""

from functools import partial

import torch
import triton
from torch import Tensor

from sparsact.kernels.gather_dense import dense
from sparsact.kernels.reference.gather_reference import check
from sparsact.kernels.reference.int4 import outputs as outputs_of
from sparsact.kernels.triton.gather_kernels import finish, sum_active_inputs
from sparsact.kernels.triton.tuning import Choice, about, run_fastest

ROWS_AT_MOST = 8
"""More rows of x use the dense product. Not measured; `benchmarks/gpu.py` times both sides."""
_BLOCK = 1024  # sums that a program finishes
_SUMS = 2048  # of a program of `sum_active_inputs`: 16 in each of 128 threads


def gather_linear(
    x: Tensor,
    weights_t: list[Tensor],
    threshold: Tensor,
    biases: list[Tensor | None],
    scales: list[Tensor | None],
    inputs_at_most: int,
) -> list[Tensor]:
    """Return one output for each weight; dense beyond `ROWS_AT_MOST`.

    `inputs_at_most` is not used: to compare it with the active inputs, the host would have to wait.
    """
    check(x, weights_t, threshold, biases, scales)
    if x.shape[:-1].numel() > ROWS_AT_MOST:
        return dense(x, weights_t, threshold, biases, scales, bfloat16_units=True)
    x, level = x.contiguous(), threshold.detach().float().contiguous()
    operands = zip(weights_t, biases, scales, strict=True)
    return [product(x, weight_t, level, bias, scale) for weight_t, bias, scale in operands]


def product(
    x: Tensor, weight_t: Tensor, level: Tensor, bias: Tensor | None, scale: Tensor | None
) -> Tensor:
    """The output (…, out) for one weight; `x` is contiguous, λ contiguous float32."""
    width, rows = outputs_of(weight_t, scale), x.shape[:-1].numel()
    out = x.new_empty(*x.shape[:-1], width)
    if not out.numel():
        return out
    run = partial(_launch, x, _words(weight_t), level, bias, scale, out)
    sizes = (about(x.shape[-1]), about(width))
    shape = (triton.next_power_of_2(rows), *sizes, x.dtype, weight_t.dtype)
    run_fastest("gather_linear", shape, choices(rows, x.shape[-1]), run, x.device)
    return out


def choices(rows: int, inputs: int) -> list[Choice]:
    """Block sizes, and into how many parts the inputs are split."""
    padded = triton.next_power_of_2(rows)
    return [
        {
            "BLOCK_IN": _SUMS // (padded * block_out),
            "BLOCK_OUT": block_out,
            "SPLITS": min(splits, max(1, triton.cdiv(inputs * padded * block_out, _SUMS))),
            "num_warps": 4,
        }
        for splits in (8, 32)
        for block_out in (128, 64, 256)
    ]


def _words(weight_t: Tensor) -> Tensor:
    """Packed weights as words of 32 bits; a copy if their memory is not aligned."""
    if weight_t.dtype != torch.uint8:
        return weight_t
    is_aligned = weight_t.data_ptr() % 4 == 0 and weight_t.storage_offset() % 4 == 0
    return (weight_t if is_aligned else weight_t.clone()).view(torch.int32)


def _launch(
    x: Tensor,
    weight_t: Tensor,
    level: Tensor,
    bias: Tensor | None,
    scale: Tensor | None,
    out: Tensor,
    choice: Choice,
) -> None:
    inputs, width, splits = x.shape[-1], out.shape[-1], choice["SPLITS"]
    rows = out.numel() // width
    sums = x.new_empty((splits, rows, width), dtype=torch.float32)
    sum_active_inputs[(triton.cdiv(width, choice["BLOCK_OUT"]), splits)](
        *(x, level, weight_t, sums, rows, inputs, width, weight_t.stride(0)),
        PER_INPUT=level.ndim == 1,
        IS_INT4=weight_t.dtype == torch.int32,
        ROWS=triton.next_power_of_2(rows),
        **choice,
        enable_fp_fusion=True,
    )
    finish[(triton.cdiv(out.numel(), _BLOCK),)](
        sums,
        out if scale is None else scale.contiguous(),
        out if bias is None else bias.contiguous(),
        *(out, out.numel(), width),
        HAS_SCALE=scale is not None,
        HAS_BIAS=bias is not None,
        SPLITS=splits,
        BLOCK=_BLOCK,
        enable_fp_fusion=True,
    )
