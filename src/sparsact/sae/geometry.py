"""Geometry of the decoder: the geometric median, and rows of length 1."""

import torch
from torch import Tensor

from sparsact._common.errors import InputError

_ROWS = 1024


@torch.no_grad()
def geometric_median(points: Tensor, iterations: int = 100, tolerance: float = 1e-6) -> Tensor:
    """The point with the smallest sum of distances to `points`.

    Args:
        points: (n, d), floating point.
        iterations: largest number of iterations.
        tolerance: stop when a step is shorter than this share of the mean distance.

    Returns:
        (d,) in float32 (float64 for float64 input).

    Raises:
        InputError: a ValueError: there are no points.

    Example:
        >>> geometric_median(torch.tensor([[0.0], [1.0], [100.0]])).round()
        tensor([1.])

    Source:
        Weiszfeld, "Sur le point pour lequel la somme des distances de n points donnés est
        minimum" (1937); a distance of 0 is replaced by a tiny one.
    """
    if len(points) == 0:
        raise InputError("geometric_median needs at least one point")
    points = points.to(torch.promote_types(points.dtype, torch.float32))
    tiny = torch.finfo(points.dtype).eps
    center = points.mean(0)
    for _ in range(iterations):
        distance = torch.linalg.vector_norm(points - center, dim=1)
        scale = distance.mean()
        weight = 1 / distance.clamp(min=float(tiny * scale) or tiny)
        moved = (weight @ points) / weight.sum()
        step = torch.linalg.vector_norm(moved - center)
        center = moved
        if step <= tolerance * scale:
            break
    return center


@torch.no_grad()
def normalize_rows_(weight: Tensor) -> None:
    """Scale each row to length 1, in place. A zero row stays zero."""
    norm = torch.linalg.vector_norm(weight, dim=1, keepdim=True)
    weight.div_(norm.clamp(min=torch.finfo(weight.dtype).tiny))


@torch.no_grad()
def remove_parallel_(gradient: Tensor, weight: Tensor) -> None:
    """Remove from each row of `gradient` its component along that row of `weight`, of length 1.

    That component would only change the lengths of the rows, which are set to 1 after the step,
    and it would disturb the optimizer's moments.
    """
    # a block of rows at a time, so that the products stay in the cache
    for part, rows in zip(gradient.split(_ROWS), weight.split(_ROWS), strict=True):
        part.addcmul_(torch.linalg.vecdot(part, rows)[:, None], rows, value=-1)
