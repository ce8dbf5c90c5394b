"""Selecting entries in plain torch: compression to CSR, entries outside a band, the k largest."""

import torch
from torch import Tensor

from sparsact.kernels.reference.csr_reference import row_offsets, sddmm, summed_in

_Triple = tuple[Tensor, Tensor, Tensor]


def threshold_compress(x: Tensor, threshold: Tensor) -> _Triple:
    """Return values, row offsets and column indices of the entries outside the band."""
    active = ~(x.abs() <= threshold)  # a NaN compares as active
    counts = active.sum(1).cumsum(0)
    offsets = torch.cat([counts.new_zeros(1), counts]).to(index_dtype(x))
    rows, columns = active.nonzero(as_tuple=True)
    return x[rows, columns], offsets, columns.to(index_dtype(x))


def index_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype for indices into `x`."""
    return torch.int32 if x.numel() < 2**31 else torch.int64


def linear_threshold(
    x: Tensor, weight: Tensor, bias: Tensor | None, lower: Tensor, upper: Tensor
) -> _Triple:
    """Return values, row offsets and features of ``x @ weight.T + bias`` outside the band."""
    wide = summed_in(x)
    scores = x.to(wide) @ weight.to(wide).T
    if bias is not None:
        scores += bias.to(wide)
    outside = ~((scores >= lower) & (scores <= upper))  # a NaN compares as outside
    counts = outside.sum(1).cumsum(0)
    offsets = torch.cat([counts.new_zeros(1), counts])
    rows, features = outside.nonzero(as_tuple=True)
    return scores[rows, features].to(x.dtype), offsets, features.clone()  # not a view of both


def linear_topk(
    x: Tensor, weight: Tensor, bias: Tensor | None, k: int, select_dtype: torch.dtype | None
) -> tuple[Tensor, Tensor]:
    """Return the k largest entries of each row of ``x @ weight.T + bias``, and their features."""
    dtype, wide = x.dtype, summed_in(x)
    x, weight = x.to(wide), weight.to(wide)
    bias = weight.new_zeros(weight.shape[0]) if bias is None else bias.to(wide)
    if select_dtype is None:
        values, indices = largest(x @ weight.T + bias, k)
        return values.to(dtype), indices
    product = x.to(select_dtype) @ weight.to(select_dtype).T
    _, indices = largest(product.to(wide) + bias, k)
    indices = indices.sort(1).values  # so that equal exact values keep the lower index first
    exact = sddmm(x, weight, row_offsets(indices), indices.flatten()).view(indices.shape)
    values, order = largest(exact + bias[indices], k)
    return values.to(dtype), indices.gather(1, order)


def largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As ``torch.topk``, but among equal values the lower index comes first."""
    values, indices = scores.sort(dim=1, descending=True, stable=True)
    return values[:, :k].contiguous(), indices[:, :k].contiguous()
