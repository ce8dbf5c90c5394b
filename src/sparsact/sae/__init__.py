"""Sparse autoencoders: any threshold, any penalty, a chosen number of active latents."""

from sparsact.sae.config import SAEConfig, SAETrainConfig
from sparsact.sae.gated import GatedReLU
from sparsact.sae.geometry import geometric_median
from sparsact.sae.model import SparseAutoencoder
from sparsact.sae.train import SAEStats, SAETrainer

__all__ = [
    "GatedReLU",
    "SAEConfig",
    "SAEStats",
    "SAETrainConfig",
    "SAETrainer",
    "SparseAutoencoder",
    "geometric_median",
]
