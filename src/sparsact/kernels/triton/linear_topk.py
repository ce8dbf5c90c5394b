"""The k largest outputs of a linear layer: torch multiplies some rows, Triton selects in them."""

import torch
import triton.language as tl
from torch import Tensor

from sparsact.kernels.reference.csr_reference import row_offsets, summed_in
from sparsact.kernels.triton.csr import sddmm
from sparsact.kernels.triton.topk_kernels import select_largest
from sparsact.kernels.triton.tuning import Choice, about, run_fastest

_SCORES = 2**28  # at once: 1 GB in float32
_BLOCKS: list[Choice] = [
    {"BLOCK": 4096, "num_warps": 8},
    {"BLOCK": 2048, "num_warps": 4},
    {"BLOCK": 4096, "num_warps": 16},
]
_KEYS = {
    torch.float32: {"WIDE": tl.float32, "KEY": tl.uint32, "SIGNED": tl.int32, "BITS": 32},
    torch.float64: {"WIDE": tl.float64, "KEY": tl.uint64, "SIGNED": tl.int64, "BITS": 64},
}


def linear_topk(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    k: int,
    select_dtype: torch.dtype | None,
    *,
    scores_at_once: int = _SCORES,
) -> tuple[Tensor, Tensor]:
    """Return values and features of the k largest entries of each row of ``x @ weight.T + bias``.

    Args:
        x: (rows, in).
        weight: (features, in).
        bias: (features,), or None.
        k: the number of entries in each row.
        select_dtype: bfloat16 selects by a product in bfloat16, and computes the values again.
        scores_at_once: entries of the product that are in memory at once, or one row.
    """
    wide = summed_in(x)
    values = x.new_empty((len(x), k), dtype=wide)
    indices = x.new_empty((len(x), k), dtype=torch.int64)
    if not values.numel():
        return values.to(x.dtype), indices
    searched = weight.to(select_dtype or wide).T
    step = max(1, scores_at_once // len(weight))
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        scores = x[rows].to(searched.dtype) @ searched
        select(scores, bias, k, values[rows], indices[rows])
    if select_dtype is not None:
        exact = sddmm(x.to(wide), weight.to(wide), row_offsets(indices), indices.flatten())
        values = exact.view(indices.shape)
        values = values if bias is None else values + bias[indices]
    values, order = values.sort(dim=1, descending=True, stable=True)
    return values.to(x.dtype), indices.gather(1, order)


def select(scores: Tensor, bias: Tensor | None, k: int, values: Tensor, indices: Tensor) -> None:
    """Write the k largest of ``scores + bias`` in each row, in the order of their columns.

    Args:
        scores: (rows, features), contiguous.
        bias: (features,), or None.
        k: at least 1, at most the features.
        values: (rows, k), contiguous, float32 or float64.
        indices: (rows, k) int64, contiguous. Of equal values the lower columns are taken.
    """
    rows, features = scores.shape

    def run(choice: Choice) -> None:
        select_largest[(rows,)](
            *(scores, scores if bias is None else bias.contiguous()),
            *(values, indices, features, k),
            HAS_BIAS=bias is not None,
            **_KEYS[values.dtype],
            **choice,
            enable_fp_fusion=True,
        )

    shape = (about(rows), about(features), scores.dtype)
    run_fastest("linear_topk", shape, _BLOCKS, run, scores.device)
