"""Latents that do not fire any more: counting them, and bringing them back."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparsact.nn import BatchTopK, TopK
from sparsact.sae.gated import GatedReLU
from sparsact.sae.kinds import learned_level
from sparsact.sae.model import SparseAutoencoder, evaluating
from sparsact.sae.sharding import own_rows, spread_like
from sparsact.sae.target import level_for


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
    squared error; its bias is 0 and its encoder row has 0.2 times the mean length of the living,
    or as much as it takes to be selected on that input. A threshold of its own becomes half of
    what that input gives it, and a gated one's magnitude its gate's.

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
        the input, here its residual, which is what the other latents leave unexplained. There no
        kind selects or has thresholds of its own.
    """
    centered = sae.centered(sae.scaled(x))
    pre = sae.encoder(centered)
    with evaluating(sae):  # a running threshold stays where it is
        residual = target * sae.scale_out - sae.reconstruct(sae.activation(pre))
    direction = nn.functional.normalize(residual, dim=1)
    reading = nn.functional.normalize(centered, dim=1) if sae.config.is_transcoder else direction
    strength = (reading * centered).sum(1)
    weight = residual.float().square().sum(1) * (strength > 0)  # else it could not be read
    number = min(int(dead.sum()), int((weight > 0).sum()))
    revived = torch.zeros_like(dead)
    if number == 0:
        return revived
    drawn = torch.multinomial(weight.cpu(), number, generator=generator).to(x.device)
    which = dead.nonzero().flatten()[:number]
    rows = sae.encoder.weight
    alive = rows[~dead].norm(dim=1).mean() if bool((~dead).any()) else rows.new_ones(())
    needed = 1.5 * _selected_from(sae.activation, pre)[drawn] / strength[drawn]
    length = needed.clamp(0.2 * alive, alive)
    rows[which] = length[:, None] * reading[drawn]
    sae.encoder.bias[which] = 0
    sae.W_dec[which] = direction[drawn]
    _let_pass_(sae.activation, which, length * strength[drawn])
    revived[which] = True
    return revived


def _selected_from(activation: nn.Module, pre: Tensor) -> Tensor:
    """(n,): what an entry of each row has to exceed to be selected; 0 where nothing selects."""
    if not isinstance(activation, (TopK, BatchTopK)):
        return pre.new_zeros(len(pre))
    score = pre if activation.by == "value" else pre.abs()
    if isinstance(activation, TopK):
        return score.topk(activation.k, dim=1).values[:, -1]
    return level_for(score, activation.k).max(activation.running_threshold).expand(len(pre))


def _let_pass_(activation: nn.Module, which: Tensor, pre: Tensor) -> None:
    """Set the levels of the latents `which` below the pre-activations `pre`, both (number,)."""
    if isinstance(activation, GatedReLU):
        activation.log_scale[which] = 0
        activation.bias[which] = 0
    elif (level := learned_level(activation)) is not None and len(level) > 1:
        level[which] = pre / 2


@torch.no_grad()
def forget_(optimizer: Optimizer, sae: SparseAutoencoder, which: Tensor) -> None:
    """Set the moments of the latents `which` (d_sae,) bool to 0.

    Args:
        optimizer: Adam, or any whose state has the shapes of the parameters, which may be spread
            over processes.
        sae: whose encoder, dictionary and levels it trains.
        which: the latents.
    """
    own = [value for value in sae.activation.parameters() if value.shape == which.shape]
    for parameter in (sae.encoder.weight, sae.encoder.bias, sae.W_dec, *own):
        rows = which.view(-1, *[1] * (parameter.ndim - 1)).expand(parameter.shape)
        for value in optimizer.state.get(parameter, {}).values():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                own_rows(value).masked_fill_(own_rows(spread_like(rows.contiguous(), value)), 0)
