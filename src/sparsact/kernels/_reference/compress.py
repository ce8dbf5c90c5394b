"""Compression to CSR in plain torch."""

import torch
from torch import Tensor


def threshold_compress(x: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Values, row offsets (rows + 1,) and column indices of the entries outside the band."""
    active = ~(x.abs() <= threshold)  # a NaN compares as active
    counts = active.sum(1).cumsum(0)
    offsets = torch.cat([counts.new_zeros(1), counts]).to(index_dtype(x))
    rows, columns = active.nonzero(as_tuple=True)
    return x[rows, columns], offsets, columns.to(index_dtype(x))


def index_dtype(x: Tensor) -> torch.dtype:
    """The dtype of indices into `x`."""
    return torch.int32 if x.numel() < 2**31 else torch.int64
