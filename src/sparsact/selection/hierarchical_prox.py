"""The prox of LassoNet: a network may use a feature only as far as a linear skip allows."""

import torch
from torch import Tensor


def hierarchical_prox(
    skip: Tensor, first: Tensor, amount: float, bound: float
) -> tuple[Tensor, Tensor]:
    """Minimise ``½‖θ − v‖² + ½‖W − U‖² + amount·Σ‖θ_j‖`` under ``|W_ij| ≤ bound·‖θ_j‖``.

    Args:
        skip: v, (outputs, features), the weights of the skip connection.
        first: U, (units, features), the weights of the first layer.
        amount: ≥ 0, the penalty times the step size.
        bound: M > 0.

    Returns:
        θ and W; a feature whose θ is 0 has a W of 0.

    Example:
        >>> skip, first = torch.tensor([[2.0, 0.5]]), torch.tensor([[0.1, 0.2], [-9.0, 0.0]])
        >>> hierarchical_prox(skip, first, amount=1.0, bound=1.0)
        (tensor([[5., 0.]]), tensor([[ 0.1000,  0.0000],
                [-5.0000,  0.0000]]))

    Source:
        Lemhadri, Ruan, Abraham & Tibshirani, "LassoNet" (2021), algorithm 3 (the prox), whose
        |θ| is the norm here for several outputs.
    """
    units = first.shape[0]
    ordered = first.abs().sort(dim=0, descending=True).values
    sums = torch.cat([torch.zeros_like(ordered[:1]), ordered.cumsum(0)])
    count = torch.arange(units + 1, dtype=first.dtype, device=first.device)[:, None]
    norm = skip.norm(dim=0)
    room = (norm + bound * sums - amount).clamp(min=0)
    levels = (
        bound / (1 + count * bound**2) * room
    )  # the bound on |W|, if it binds for `count` units
    next_largest = torch.cat([ordered, torch.zeros_like(ordered[:1])])
    chosen = (levels >= next_largest).to(torch.uint8).argmax(0, keepdim=True)  # the first that fits
    level = levels.gather(0, chosen)
    direction = torch.where(norm > 0, skip / norm.clamp(min=1e-30), 1 / skip.shape[0] ** 0.5)
    return direction * level / bound, first.sign() * torch.minimum(first.abs(), level)
