"""How well an autoencoder reconstructs, measured over a stream in constant memory."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsact._common.devices import widest_float
from sparsact._common.errors import InputError
from sparsact.sae.data.activation_batches import Batch, as_pair
from sparsact.sae.sae_config import DEAD_AFTER
from sparsact.sae.sae_model import SparseAutoencoder, evaluating
from sparsact.sae.training.dead_latents import DeadLatents


@dataclass(frozen=True)
class SAEMetrics:
    """Quality on held-out activations.

    Attributes:
        inputs: number of rows measured.
        l0: mean number of active latents per input.
        fvu: fraction of variance unexplained: squared error over squared deviation of the
            targets from their mean over all rows.
        explained_variance: 1 − fvu, also around the mean.
        mse: mean squared error per entry.
        cosine: mean cosine between reconstruction and target.
        silent: share of latents that never fired on these rows.
        density: (d_sae,) share of inputs on which each latent fired.
        dead: share of latents that did not fire in the last ``dead_after`` inputs, as training
            counts them. NaN if fewer inputs were measured.
    """

    inputs: int
    l0: float
    fvu: float
    explained_variance: float
    mse: float
    cosine: float
    silent: float
    density: Tensor
    dead: float = math.nan

    def latents_by_decade(self) -> dict[int, int]:
        """Decade n → number of latents with a density from 10ⁿ to 10ⁿ⁺¹, highest decade first.

        The last decade is the lowest that contains a latent. Latents that never fired are left
        out.

        Example:
            >>> density = torch.tensor([0.0, 1.0, 0.1, 0.004])
            >>> SAEMetrics(1000, 1.104, 0, 1, 0, 1, 0.25, density).latents_by_decade()
            {-1: 2, -2: 0, -3: 1}
        """
        fired = (self.density.double() * self.inputs).round()  # undoes rounding: 1/100 is in 10⁻²
        decades = (fired[fired > 0] / self.inputs).log10().floor().clamp(max=-1).int().tolist()
        return {
            decade: decades.count(decade) for decade in range(-1, min(decades, default=0) - 1, -1)
        }

    def density_histogram(self, bins: int = 40) -> tuple[Tensor, Tensor]:
        """Counts (bins,) and edges (bins + 1,) of log₁₀ density, for latents that fired."""
        return density_histogram(self.density, bins)


def density_histogram(density: Tensor, bins: int = 40) -> tuple[Tensor, Tensor]:
    """Counts (bins,) and edges (bins + 1,) of log₁₀ of the non-zero entries of a density."""
    logs = density[density > 0].double().log10()
    low = float(logs.min()) if len(logs) else -1.0
    edges = torch.linspace(min(low, -1e-3), 0, bins + 1, dtype=torch.float64)
    return torch.histogram(logs, edges).hist, edges


@torch.no_grad()
def evaluate(
    sae: SparseAutoencoder, batches: Iterable[Batch], *, dead_after: int = DEAD_AFTER
) -> SAEMetrics:
    """Measure an autoencoder in eval mode.

    Args:
        sae: the autoencoder; its mode is restored.
        batches: as for training, but finite.
        dead_after: inputs without firing after which a latent counts as dead.

    Raises:
        InputError: a ValueError: there are no batches, or one has NaN or infinity, another
            width, or is no pair although this is a transcoder.

    Example:
        >>> from sparsact.sae import SAEConfig
        >>> sae = SparseAutoencoder(SAEConfig(d_in=8, d_sae=32, k=4))
        >>> evaluate(sae, [torch.randn(64, 8)]).l0 <= 4
        True
    """
    sums = _Sums(sae, dead_after)
    with evaluating(sae):
        for batch in batches:
            x, target = as_pair(batch, sae)
            if not bool(x.isfinite().all() and target.isfinite().all()):
                raise InputError(f"NaN or infinity in the {len(x)} rows from row {sums.inputs} on")
            latents = sae.encode(x)
            sums.add(latents, sae.rebuild(latents, x), target)
    return sums.metrics()


class _Sums:
    """Running sums in float64. Deviations are around the running mean (Chan et al.)."""

    def __init__(self, sae: SparseAutoencoder, dead_after: int) -> None:
        width, device = sae.config.width_out, sae.W_dec.device
        self.latents = DeadLatents(sae.config.d_sae, dead_after).to(device)
        self.fired = torch.zeros(sae.config.d_sae, dtype=torch.long, device=device)
        self.mean = torch.zeros(width, dtype=widest_float(device), device=device)
        self.inputs = 0
        self.error = self.deviation = self.cosine = 0.0

    def add(self, latents: Tensor, rebuilt: Tensor, target: Tensor) -> None:
        rebuilt, target = rebuilt.to(self.mean.dtype), target.to(self.mean.dtype)
        fired = (latents != 0).sum(0)
        self.fired += fired
        self.latents.update(fired > 0, len(latents))
        self.error += float((target - rebuilt).square().sum())
        self.cosine += float(torch.cosine_similarity(rebuilt, target, dim=1).sum())
        total = self.inputs + len(target)
        mean = target.mean(0)
        shift = (mean - self.mean).square().sum() * self.inputs * len(target) / total
        self.deviation += float((target - mean).square().sum() + shift)
        self.mean += (mean - self.mean) * len(target) / total
        self.inputs = total

    def metrics(self) -> SAEMetrics:
        if self.inputs == 0:
            raise InputError("there is nothing to measure: no batches were given")
        density = self.fired / self.inputs
        fvu = self.error / self.deviation if self.deviation else float("nan")
        return SAEMetrics(
            inputs=self.inputs,
            l0=float(density.sum()),
            fvu=fvu,
            explained_variance=1 - fvu,
            mse=self.error / (self.inputs * len(self.mean)),
            cosine=self.cosine / self.inputs,
            silent=float((self.fired == 0).float().mean()),
            density=density.cpu(),
            dead=self.latents.dead_share if self.inputs >= self.latents.dead_after else math.nan,
        )
