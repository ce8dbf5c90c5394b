"""Linear layers on thresholded inputs in plain torch."""

import torch
from torch import Tensor


def gather_linear(
    x: Tensor,
    weights_t: list[Tensor],
    level: float,
    levels: Tensor | None,
    biases: list[Tensor | None],
    scales: list[Tensor | None],
    inputs_at_most: int,
) -> list[Tensor]:
    """``W·(x·1[|x|>λ]) + b`` for each weight, summed in float32."""
    kept = keep_active(x, level, levels).float()
    outputs = []
    for weight_t, bias, scale in zip(weights_t, biases, scales, strict=True):
        y = kept @ weight_t.float()
        if scale is not None:
            y = y * scale
        if bias is not None:
            y = y + bias
        outputs.append(y.to(x.dtype))
    return outputs


def keep_active(x: Tensor, level: float, levels: Tensor | None) -> Tensor:
    """`x` with zeros where ``|x| ≤ λ``; λ is compared in float32, a NaN stays."""
    inside = x.abs().float() <= (level if levels is None else levels)
    return x.masked_fill(inside, 0)
