"""The k largest entries of each row of a product, in plain torch."""

import torch
from torch import Tensor

from sparsact.kernels._reference.csr import row_offsets, sddmm, summed_in


def linear_topk(
    x: Tensor, weight: Tensor, bias: Tensor | None, k: int, select_dtype: torch.dtype | None
) -> tuple[Tensor, Tensor]:
    """Values and features of the k largest entries of each row of ``x @ weight.T + bias``."""
    dtype, wide = x.dtype, summed_in(x)
    x, weight = x.to(wide), weight.to(wide)
    bias = weight.new_zeros(weight.shape[0]) if bias is None else bias.to(wide)
    if select_dtype is None:
        values, indices = largest(x @ weight.T + bias, k)
        return values.to(dtype), indices
    product = x.to(select_dtype) @ weight.to(select_dtype).T
    _, indices = largest(product.to(wide) + bias, k)
    indices = indices.sort(1).values  # for the ties of the exact values
    exact = sddmm(x, weight, row_offsets(indices), indices.flatten()).view(indices.shape)
    values, order = largest(exact + bias[indices], k)
    return values.to(dtype), indices.gather(1, order)


def largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As ``torch.topk``, with its ties settled: the lower index comes first."""
    values, indices = scores.sort(dim=1, descending=True, stable=True)
    return values[:, :k].contiguous(), indices[:, :k].contiguous()
