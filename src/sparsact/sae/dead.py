"""Latents that do not fire any more: counting them, and bringing them back."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparsact.sae.geometry import normalize_rows_
from sparsact.sae.model import SparseAutoencoder
from sparsact.sae.sharding import own_rows, spread_like


class DeadLatents(nn.Module):
    """How many inputs each latent has seen since it last fired.

    Args:
        d_sae: number of latents.
        dead_after: inputs without firing after which a latent is dead.

    Example:
        >>> latents = DeadLatents(2, dead_after=10)
        >>> latents.update(torch.tensor([True, False]), inputs=10)
        >>> latents.dead
        tensor([False,  True])
    """

    since_fired: Tensor

    def __init__(self, d_sae: int, dead_after: int) -> None:
        super().__init__()
        self.dead_after = dead_after
        self.register_buffer("since_fired", torch.zeros(d_sae, dtype=torch.long))

    @property
    def dead(self) -> Tensor:
        """(d_sae,) bool."""
        return self.since_fired >= self.dead_after

    def update(self, fired: Tensor, inputs: int) -> None:
        """Count a batch of `inputs` in which the latents `fired` (d_sae,) bool were active."""
        self.since_fired.add_(inputs).masked_fill_(fired, 0)

    def reset(self, which: Tensor) -> None:
        """Give the latents `which` (d_sae,) bool a new lease."""
        self.since_fired.masked_fill_(which, 0)


@torch.no_grad()
def resample_(
    sae: SparseAutoencoder,
    dead: Tensor,
    x: Tensor,
    target: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Point dead latents at what the autoencoder explains worst, in place.

    Each takes the direction of an input's residual, drawn with probability proportional to the
    squared error; its encoder row has 0.2 times the mean length of the living, its bias is 0.

    Args:
        sae: the autoencoder.
        dead: (d_sae,) bool.
        x: (n, d_in), raw inputs to draw from; each is used at most once.
        target: (n, d_out), raw.
        generator: on the CPU.

    Returns:
        (d_sae,) bool: the latents that were revived, at most n; :func:`forget_` what the
        optimizer remembers of them.

    Source:
        Bricken et al., "Towards Monosemanticity" (2023), appendix on neuron resampling; there
        the input, here its residual, which is what the other latents leave unexplained.
    """
    wanted = target * sae.scale_out
    residual = wanted - sae.reconstruct(sae.encode(x))
    weight = residual.float().square().sum(1).cpu()
    number = min(int(dead.sum()), int((weight > 0).sum()))
    revived = torch.zeros_like(dead)
    if number == 0:
        return revived
    drawn = torch.multinomial(weight, number, generator=generator).to(x.device)
    which = dead.nonzero().flatten()[:number]
    direction = residual[drawn].to(sae.W_dec.dtype)
    normalize_rows_(direction)
    rows = sae.encoder.weight
    alive = rows[~dead].norm(dim=1).mean() if bool((~dead).any()) else rows.new_ones(())
    reading = sae.centered(x[drawn] * sae.scale_in) if sae.config.is_transcoder else direction
    rows[which] = 0.2 * alive * nn.functional.normalize(reading, dim=1).to(rows.dtype)
    sae.encoder.bias[which] = 0
    sae.W_dec[which] = direction
    revived[which] = True
    return revived


@torch.no_grad()
def forget_(optimizer: Optimizer, sae: SparseAutoencoder, which: Tensor) -> None:
    """Set the moments of the latents `which` (d_sae,) bool to 0.

    Args:
        optimizer: Adam, or any whose state has the shapes of the parameters, which may be spread
            over processes.
        sae: whose encoder and dictionary it trains.
        which: the latents.
    """
    for parameter in (sae.encoder.weight, sae.encoder.bias, sae.W_dec):
        rows = which.view(-1, *[1] * (parameter.ndim - 1)).expand(parameter.shape)
        for value in optimizer.state.get(parameter, {}).values():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                own_rows(value).masked_fill_(own_rows(spread_like(rows.contiguous(), value)), 0)
