"""The entries of a product that lie outside a band, in plain torch."""

import torch
from torch import Tensor

from sparsact.kernels._reference.csr import summed_in

_Triple = tuple[Tensor, Tensor, Tensor]


def linear_threshold(
    x: Tensor, weight: Tensor, bias: Tensor | None, lower: Tensor, upper: Tensor
) -> _Triple:
    """Values, row offsets and features of what ``x @ weight.T + bias`` has outside the band."""
    wide = summed_in(x)
    scores = x.to(wide) @ weight.to(wide).T
    if bias is not None:
        scores += bias.to(wide)
    outside = ~((scores >= lower) & (scores <= upper))  # a NaN compares as outside
    counts = outside.sum(1).cumsum(0)
    offsets = torch.cat([counts.new_zeros(1), counts])
    rows, features = outside.nonzero(as_tuple=True)
    return scores[rows, features].to(x.dtype), offsets, features.clone()  # not a view of both
