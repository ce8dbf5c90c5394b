"""How the directions of dictionaries relate: near duplicates, matches, and feature splitting."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.sae.sae_model import SparseAutoencoder

_ROWS = 1024
NEAR = 0.7
"""Default cosine from which two directions count as the same feature."""


@dataclass(frozen=True)
class DictionaryMatch:
    """The directions of one autoencoder against those of another.

    Attributes:
        nearest: (d_sae,) the latent of the other with the largest cosine.
        cosine: (d_sae,) that cosine.
        children: (d_sae,) number of latents of the other whose nearest one here this is, with at
            least the cosine `near`. Two or more: the feature is split.
        near: cosine from which two directions count as the same feature.
    """

    nearest: Tensor
    cosine: Tensor
    children: Tensor
    near: float

    @property
    def mean_cosine(self) -> float:
        """The mean of the largest cosines (MMCS, Sharkey et al., 2022)."""
        return float(self.cosine.mean())

    @property
    def matched(self) -> float:
        """The share of latents that the other has, too."""
        return float((self.cosine >= self.near).float().mean())

    @property
    def split(self) -> float:
        """The share of latents that are split into several of the other."""
        return float((self.children > 1).float().mean())


def match_dictionaries(
    sae: SparseAutoencoder, other: SparseAutoencoder, *, near: float = NEAR
) -> DictionaryMatch:
    """Match the decoder directions of two autoencoders.

    Args:
        sae: one of them, such as the smaller one.
        other: another one for activations of the same width.
        near: cosine from which two directions count as the same feature.

    Raises:
        InputError: a ValueError: another width, or `near` is not in (0, 1].

    Example:
        >>> from sparsact.sae import SAEConfig
        >>> sae = SparseAutoencoder(SAEConfig(d_in=8, d_sae=16, k=4))
        >>> match_dictionaries(sae, sae).matched
        1.0
    """
    if sae.config.width_out != other.config.width_out:
        raise InputError(
            f"directions of width {sae.config.width_out} and {other.config.width_out} cannot be "
            "compared"
        )
    if not 0 < near <= 1:
        raise InputError(f"near= must be above 0 and at most 1, got {near}")
    cosine, nearest = largest_cosines(sae.W_dec, other.W_dec)
    back, parents = largest_cosines(other.W_dec, sae.W_dec)
    children = torch.bincount(parents[back >= near], minlength=sae.config.d_sae)
    return DictionaryMatch(nearest, cosine, children, near)


@torch.no_grad()
def decoder_cosines(sae: SparseAutoencoder) -> Tensor:
    """(d_sae,): the largest cosine of each decoder direction with another one.

    Values near 1 are near duplicates, as when a feature is split into latents for its contexts.

    Raises:
        InputError: a ValueError: there is only one latent.

    Example:
        >>> from sparsact.sae import SAEConfig
        >>> decoder_cosines(SparseAutoencoder(SAEConfig(d_in=8, d_sae=16, k=4))).shape
        torch.Size([16])
    """
    if sae.config.d_sae == 1:
        raise InputError("there is no other direction: the autoencoder has one latent")
    return largest_cosines(sae.W_dec, None)[0]


@torch.no_grad()
def largest_cosines(directions: Tensor, others: Tensor | None) -> tuple[Tensor, Tensor]:
    """The largest cosine of each direction (n, d) with one of `others`, and its index.

    Args:
        directions: (n, d).
        others: (m, d); None: the other directions.
    """
    unit = torch.nn.functional.normalize(directions.float(), dim=1)
    against = unit if others is None else torch.nn.functional.normalize(others.float(), dim=1)
    values, places = [], []
    for start in range(0, len(unit), _ROWS):
        cosine = unit[start : start + _ROWS] @ against.T
        if others is None:
            own = torch.arange(start, start + len(cosine), device=cosine.device)
            cosine.scatter_(1, own[:, None], -2.0)
        best = cosine.max(1)
        values.append(best.values)
        places.append(best.indices)
    return torch.cat(values).cpu(), torch.cat(places).cpu()
