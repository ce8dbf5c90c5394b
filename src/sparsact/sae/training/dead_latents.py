"""Dead latents, which no longer fire: counting them, and reviving them."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparsact.sae.sae_model import SparseAutoencoder, evaluating
from sparsact.sae.training.sharding import own_rows, shard_like


class DeadLatents(nn.Module):
    """Counts the inputs since each latent last fired.

    Args:
        d_sae: number of latents.
        dead_after: a latent is dead after this many inputs without firing.

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

    @property
    def dead_share(self) -> float:
        """The share of latents that are dead."""
        return float(self.dead.float().mean())

    def update(self, fired: Tensor, inputs: int) -> None:
        """Count a batch of `inputs` in which the latents `fired` (d_sae,) bool were active."""
        self.since_fired.add_(inputs).masked_fill_(fired, 0)

    def reset(self, which: Tensor) -> None:
        """Count the latents `which` (d_sae,) bool from 0 again."""
        self.since_fired.masked_fill_(which, 0)


@torch.no_grad()
def resample_(
    sae: SparseAutoencoder,
    dead: Tensor,
    x: Tensor,
    target: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Point dead latents at what the autoencoder reconstructs worst, in place.

    Each takes the direction of the residual of one input. The input is drawn with probability
    proportional to its squared error. The latent's bias becomes 0. Its encoder row becomes 0.2
    times as long as the mean of the living, or longer if it would not be selected on that input.
    A threshold of its own becomes half of its pre-activation on that input, and the magnitude of
    a gated kind follows its gate.

    Args:
        sae: the autoencoder.
        dead: (d_sae,) bool.
        x: (n, d_in), raw inputs to draw from; each is used at most once.
        target: (n, d_out), raw.
        generator: on the CPU.

    Returns:
        (d_sae,) bool: the latents that were revived, at most n. Call :func:`forget_` with them.

    Source:
        Bricken et al., "Towards Monosemanticity" (2023), appendix on neuron resampling. There
        latents take the direction of the input; here that of its residual, which the other
        latents leave unexplained. Kinds that select or have thresholds are not treated there.
    """
    centered = sae.centered(sae.scaled(x))
    pre = sae.encoder(centered)
    with evaluating(sae):  # so that a running threshold does not move
        residual = target * sae.scale_out - sae.skipped(x) - sae.reconstruct(sae.activation(pre))
    direction = nn.functional.normalize(residual, dim=1)
    reading = nn.functional.normalize(centered, dim=1) if sae.config.is_transcoder else direction
    strength = (reading * centered).sum(1)
    weight = residual.float().square().sum(1) * (strength > 0)  # a negative one cannot fire
    count = min(int(dead.sum()), int((weight > 0).sum()))
    revived = torch.zeros_like(dead)
    if count == 0:
        return revived
    drawn = torch.multinomial(weight.cpu(), count, generator=generator).to(x.device)
    which = dead.nonzero().flatten()[:count]
    rows = sae.encoder.weight
    alive = rows[~dead].norm(dim=1).mean() if bool((~dead).any()) else rows.new_ones(())
    needed = 1.5 * sae.kind.selection_level(pre)[drawn] / strength[drawn]
    length = needed.clamp(0.2 * alive, alive)
    rows[which] = length[:, None] * reading[drawn]
    sae.encoder.bias[which] = 0
    sae.W_dec[which] = direction[drawn]
    sae.kind.let_pass_(which, length * strength[drawn])
    revived[which] = True
    return revived


@torch.no_grad()
def forget_(optimizer: Optimizer, sae: SparseAutoencoder, which: Tensor) -> None:
    """Set the optimizer's moments of some latents to 0.

    Args:
        optimizer: Adam, or another whose state has the shapes of the parameters. They may be
            sharded.
        sae: the autoencoder it trains.
        which: (d_sae,) bool, the latents.
    """
    own = [value for value in sae.activation.parameters() if value.shape == which.shape]
    for parameter in (sae.encoder.weight, sae.encoder.bias, sae.W_dec, *own):
        rows = which.view(-1, *[1] * (parameter.ndim - 1)).expand(parameter.shape)
        for value in optimizer.state.get(parameter, {}).values():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                own_rows(value).masked_fill_(own_rows(shard_like(rows.contiguous(), value)), 0)
