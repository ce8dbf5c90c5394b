"""Crosscoders: one autoencoder for the activations of several layers, side by side."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.penalties import Penalty
from sparsact.sae.data.activation_rows import Rows
from sparsact.sae.data.activation_shards import Shard
from sparsact.sae.sae_model import SparseAutoencoder, evaluating

SAMPLE = 4096
"""Rows that set the scale of each layer."""


@dataclass(frozen=True)
class JoinedLayers:
    """Activations of several layers, side by side.

    Attributes:
        rows: (…, Σ widths): the layers one after the other, each times its scale.
        widths: name of the layer → its width, in that order.
        scales: name of the layer → its factor, with which its rows have a mean norm of √width.
    """

    rows: Rows
    widths: Mapping[str, int]
    scales: Mapping[str, float]


def join_layers(layers: Mapping[str, Rows], *, seed: int = 0) -> JoinedLayers:
    """Join the activations of the same tokens in several layers, for a crosscoder.

    Args:
        layers: name → activations, as :func:`harvest_layers` or :func:`stream_layers` return them.
        seed: of the rows that set the scales.

    Raises:
        InputError: a ValueError: fewer than two layers, or they differ in their rows.

    Example:
        >>> from sparsact.sae import open_rows
        >>> joined = join_layers({"a": open_rows(torch.randn(50, 3)),
        ...                       "b": open_rows(torch.randn(50, 5))})
        >>> joined.rows.total, joined.rows.width
        (50, 8)
    """
    if len(layers) < 2:
        raise InputError(f"a crosscoder needs at least two layers, got {len(layers)}")
    sizes = {name: [shard.rows for shard in rows.shards] for name, rows in layers.items()}
    first, *others = sizes
    differing = [name for name in others if sizes[name] != sizes[first]]
    if differing or any(shard.without for rows in layers.values() for shard in rows.shards):
        raise InputError(
            "the layers must have the same rows in the same shards, before a split: harvest them "
            f"together (compared with {first!r}: {', '.join(differing) or 'rows are left out'})"
        )
    scales = {name: _scale(rows.sample(SAMPLE, seed)) for name, rows in layers.items()}
    every = list(layers.values())
    width = sum(rows.width for rows in every)
    shards = [
        replace(shards[0], width=width, take=_Take(shards, tuple(scales.values())))
        for shards in zip(*(rows.shards for rows in every), strict=True)
    ]
    joined = Rows(shards, width, all(rows.stored for rows in every))
    return JoinedLayers(joined, {name: rows.width for name, rows in layers.items()}, scales)


@dataclass(frozen=True)
class _Take:
    """Rows of a shard in all layers, side by side."""

    shards: Sequence[Shard]
    scales: Sequence[float]

    def __call__(self, start: int, stop: int) -> Tensor:
        parts = [
            shard.take(start, stop).float() * scale
            for shard, scale in zip(self.shards, self.scales, strict=True)
        ]
        return torch.cat(parts, 1)


def _scale(rows: Tensor) -> float:
    norm = float(torch.linalg.vector_norm(rows.float(), dim=1).mean())
    return math.sqrt(rows.shape[1]) / norm if norm else 1.0


class CrosscoderPenalty(Penalty):
    """``Σ_i |z_i|·Σ_l ‖d_i^l‖``: a latent pays for its direction in every layer.

    Pass it as ``SAETrainer(sae, config, penalty=…)``. It has no prox.

    Args:
        sae: the crosscoder. Its directions learn from the penalty, too.
        widths: the widths of the layers, in the order of the rows.
        coefficient: its factor; training has another one, which can move.

    Gradient:
        exact, for the latents and the directions.

    Raises:
        InputError: a ValueError: the widths do not add up to that of the autoencoder.

    Example:
        >>> from sparsact.sae import SAEConfig
        >>> sae = SparseAutoencoder(SAEConfig(d_in=8, d_sae=16, activation="relu"))
        >>> CrosscoderPenalty(sae, [3, 5])(torch.ones(2, 16)) > 32  # ‖d‖ = 1, so the sum is more
        tensor(True)

    Source:
        Lindsey et al., "Sparse Crosscoders for Cross-Layer Features and Model Diffing" (2024).
        There the norms of rows are free; here each row has length 1 over all layers together.
    """

    def __init__(
        self, sae: SparseAutoencoder, widths: Sequence[int], coefficient: float = 1.0
    ) -> None:
        _check_widths(sae, widths)
        self.sae, self.widths, self.factor = sae, list(widths), coefficient

    def __call__(self, x: Tensor) -> Tensor:
        """The penalty on latents (…, d_sae): a scalar."""
        norms = layer_norms(self.sae.W_dec, self.widths).sum(1)
        return self.factor * (x.abs().float() * norms.float()).sum()


def layer_norms(directions: Tensor, widths: Sequence[int]) -> Tensor:
    """(d_sae, layers): the length of each direction in each layer.

    Args:
        directions: (d_sae, Σ widths), such as ``sae.W_dec``.
        widths: of the layers.

    Example:
        >>> layer_norms(torch.tensor([[3.0, 4.0, 1.0]]), [2, 1])
        tensor([[5., 1.]])
    """
    parts = directions.split(list(widths), 1)
    return torch.stack([torch.linalg.vector_norm(part, dim=1) for part in parts], 1)


@torch.no_grad()
def layer_fvu(sae: SparseAutoencoder, x: Tensor, widths: Mapping[str, int]) -> dict[str, float]:
    """The unexplained share of the variance in each layer.

    Args:
        sae: the crosscoder.
        x: (n, Σ widths), rows of joined layers.
        widths: name of the layer → its width.

    Raises:
        InputError: a ValueError: the widths do not add up to that of the autoencoder.

    Example:
        >>> from sparsact.sae import SAEConfig
        >>> sae = SparseAutoencoder(SAEConfig(d_in=8, d_sae=16, k=4))
        >>> list(layer_fvu(sae, torch.randn(20, 8), {"a": 3, "b": 5}))
        ['a', 'b']
    """
    _check_widths(sae, list(widths.values()))
    with evaluating(sae):
        rebuilt = sae(x.to(sae.W_dec)).double().cpu()
    x = x.double().cpu()
    found = {}
    parts = (tensor.split(list(widths.values()), 1) for tensor in (x, rebuilt))
    for name, target, own in zip(widths, *parts, strict=True):
        deviation = float((target - target.mean(0)).square().sum())
        error = float((target - own).square().sum())
        found[name] = error / deviation if deviation else math.nan
    return found


def _check_widths(sae: SparseAutoencoder, widths: Sequence[int]) -> None:
    if sum(widths) != sae.config.width_out or min(widths, default=0) < 1:
        raise InputError(
            f"the widths {list(widths)} do not add up to the {sae.config.width_out} of the "
            "autoencoder"
        )
