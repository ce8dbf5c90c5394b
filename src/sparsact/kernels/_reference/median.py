"""The median of what is not nearly zero, in plain torch."""

import torch
from torch import Tensor


def median_above(x: Tensor, floor: Tensor) -> Tensor:
    """The median of ``|x|`` over each row's entries with ``|x| > floor``; NaN if there are none.

    Differentiable by autograd, unlike the compiled version.
    """
    magnitude = x.abs()
    magnitude = torch.where(magnitude > floor[:, None], magnitude, torch.nan)
    # torch's median is the lower of the two middle values; the upper one is beside it
    lower = magnitude.nanmedian(-1, keepdim=True).values
    count = (magnitude > 0).sum(-1, keepdim=True)
    up_to = (magnitude <= lower).sum(-1, keepdim=True)
    above = torch.where(magnitude > lower, magnitude, torch.inf).amin(-1, keepdim=True)
    upper = torch.where((count % 2 == 1) | (2 * up_to > count), lower, above)
    return ((lower + upper) / 2).squeeze(-1)
