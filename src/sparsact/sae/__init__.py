"""Sparse autoencoders: any threshold, any penalty, a chosen number of active latents."""

from sparsact.sae.activations import Rows, harvest, open_rows
from sparsact.sae.config import SAEConfig, SAETrainConfig
from sparsact.sae.files import load_checkpoint, load_sae, save_checkpoint, save_sae
from sparsact.sae.gated import GatedReLU
from sparsact.sae.geometry import geometric_median
from sparsact.sae.interchange import load_saelens, load_sparsify, save_saelens
from sparsact.sae.metrics import SAEMetrics, evaluate
from sparsact.sae.model import SparseAutoencoder
from sparsact.sae.splice import SpliceMetrics, evaluate_spliced
from sparsact.sae.stats import SAEStats
from sparsact.sae.train import SAETrainer
from sparsact.text import Tokens, pack_tokens

__all__ = [
    "GatedReLU",
    "Rows",
    "SAEConfig",
    "SAEMetrics",
    "SAEStats",
    "SAETrainConfig",
    "SAETrainer",
    "SparseAutoencoder",
    "SpliceMetrics",
    "Tokens",
    "evaluate",
    "evaluate_spliced",
    "geometric_median",
    "harvest",
    "load_checkpoint",
    "load_sae",
    "load_saelens",
    "load_sparsify",
    "open_rows",
    "pack_tokens",
    "save_checkpoint",
    "save_sae",
    "save_saelens",
]
