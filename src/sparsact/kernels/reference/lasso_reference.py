"""Lasso problems that share a Gram matrix, in plain torch."""

import torch
from torch import Tensor


def lasso_gram(
    correlation: Tensor,
    gram: Tensor,
    energy: Tensor,
    level: Tensor,
    start: Tensor,
    ridge: float,
    positive: bool,
    rounds: int,
    tol: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Coordinate descent over all signals at once, one sweep over the atoms a round."""
    codes, gap = (
        start.clone(memory_format=torch.contiguous_format),
        torch.full_like(energy, torch.inf),
    )
    taken = torch.zeros_like(energy, dtype=torch.int64)
    running = torch.arange(len(codes), device=codes.device)
    curvature = (gram.diagonal() + ridge).clone()
    curvature[curvature == 0] = torch.inf  # an atom of zeros has the code 0
    for done in range(rounds + 1):
        z, b = codes[running], correlation[running]
        gap[running] = relative_gap(z, b, gram, energy[running], level, ridge, positive)
        taken[running] = done
        running = running[gap[running] > tol]
        if done == rounds or not len(running):
            break
        z, b = codes[running], correlation[running]
        for j in range(len(gram)):
            u = b[:, j] - z @ gram[j] + gram[j, j] * z[:, j]
            shrunk = (u.abs() - level[j]).relu() * u.sign() / curvature[j]
            z[:, j] = shrunk.relu() if positive else shrunk
        codes[running] = z
    return codes, gap, taken


def relative_gap(
    codes: Tensor,
    correlation: Tensor,
    gram: Tensor,
    energy: Tensor,
    level: Tensor,
    ridge: float,
    positive: bool,
) -> Tensor:
    """The duality gap over ½‖x‖², (batch,); see the formula in the CPU version."""
    c = correlation - codes @ gram
    ascent = c - ridge * codes
    size = (ascent if positive else ascent.abs()).clamp(min=torch.finfo(c.dtype).tiny)
    scale = (level / size).amin(1).clamp(max=1)
    residual = (energy - (codes * (correlation + c)).sum(1)).relu()
    residual += ridge * codes.square().sum(1)
    gap = (1 - scale).square() / 2 * residual
    gap += codes.abs() @ level - scale * (codes * ascent).sum(1)
    return gap.relu() / (energy / 2).clamp(min=torch.finfo(energy.dtype).tiny)
