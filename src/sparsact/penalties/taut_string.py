"""The exact prox of total variation in one dim."""

import torch
from torch import Tensor

from sparsact.penalties.sorted_l1 import block_means
from sparsact.thresholds.arguments import as_number


def piecewise_constant(rows: Tensor, lambd: float | Tensor) -> Tensor:
    """``argmin_u ½‖u − x‖² + λ·Σ|u_{i+1} − u_i|`` for each row x, exact up to rounding.

    A block of neighbours starts as a whole row. Its entries that the solution puts above the
    block's mean are a minimum cut of a chain. Where the cut divides the block, the sign of the
    jump is known: it becomes a shift by λ on either side, and the parts are solved on their own.
    All blocks of all rows are divided at once, until no cut divides one.

    Args:
        rows: x, (rows, n), float32 or float64.
        lambd: λ ≥ 0, a number or a scalar tensor.

    Returns:
        (rows, n). The gradient to `rows` and `lambd` is exact.

    Source:
        Hochbaum, "An efficient algorithm for image segmentation, Markov random fields and related
        problems" (2001), for the reduction to cuts.
    """
    wide, level = rows.detach().double(), as_number(lambd)
    first = torch.zeros_like(wide, dtype=torch.bool)  # entries that begin a block
    first[:, :1] = True
    shift = torch.zeros_like(wide)  # in units of λ
    while True:
        labels = first.flatten().cumsum(0) - 1
        count = int(first.sum())
        data = wide + level * shift
        means = block_means(data.flatten(), labels, count)[labels].view_as(data)
        above = _above(means - data, first, level)
        divided = torch.zeros_like(first)
        divided[:, 1:] = ~first[:, 1:] & (above[:, 1:] != above[:, :-1])
        if not bool(divided.any()):
            shifted = rows + lambd * shift.to(rows.dtype)
            return block_means(shifted.flatten(), labels, count)[labels].view_as(rows)
        down = torch.where(above, -1.0, 1.0).to(shift) * divided
        shift += down
        shift[:, :-1] -= down[:, 1:]
        first |= divided


def _above(cost: Tensor, first: Tensor, level: float) -> Tensor:
    """The minimum cut of each block: which entries minimise ``Σ cost + level·(boundaries)``.

    From left to right, with D the price of an entry's being above given all before it,
    ``D_i = cost_i + clamp(D_{i−1}, −level, level)``. Such functions compose to one of the same
    kind, so all prefixes take log n steps. From right to left, an entry whose price is beyond the
    level is decided; the others follow their right neighbour.
    """
    size = cost.shape[1]
    edge = torch.where(first, 0.0, level).to(cost)  # to the left neighbour
    low, high, total = -edge, edge.clone(), cost.clone()
    reach = 1
    while reach < size:
        before = slice(None), slice(None, -reach)
        after = slice(None), slice(reach, None)
        moved = total[before].clone()
        bounds = low[after] - moved, high[after] - moved
        low[after], high[after] = low[before].clamp(*bounds), high[before].clamp(*bounds)
        total[after] += moved
        reach *= 2
    price = total.new_zeros(()).clamp(low, high) + total
    right = torch.cat([edge[:, 1:], edge.new_zeros(len(edge), 1)], 1)
    ends = torch.cat([first[:, 1:], first.new_ones(len(first), 1)], 1)
    rounding = 4 * size * torch.finfo(cost.dtype).eps
    slack = rounding * (cost.abs().amax(1, keepdim=True) + level)
    decided = ends | (price.abs() > right + slack)
    place = torch.where(decided, torch.arange(size, device=cost.device), size - 1)
    follows = place.flip(1).cummin(1).values.flip(1)
    return (price < -right - slack).gather(1, follows)
