"""Sparse autoencoders: any threshold, any penalty, a chosen number of active latents."""

from sparsact.sae.attaching.attach import AttachedSites, attach
from sparsact.sae.attaching.attached_site import AttachedSite
from sparsact.sae.attaching.steering import Steering, steer
from sparsact.sae.crosscoder import (
    CrosscoderPenalty,
    JoinedLayers,
    join_layers,
    layer_fvu,
    layer_norms,
)
from sparsact.sae.data.activation_rows import Rows, open_rows
from sparsact.sae.data.harvesting import harvest, harvest_layers
from sparsact.sae.data.streaming import stream_layers
from sparsact.sae.evaluation.absorption import Absorption, absorption
from sparsact.sae.evaluation.core_metrics import core_metrics
from sparsact.sae.evaluation.dictionary_match import (
    DictionaryMatch,
    decoder_cosines,
    match_dictionaries,
)
from sparsact.sae.evaluation.reconstruction_metrics import SAEMetrics, evaluate
from sparsact.sae.evaluation.saebench_adapter import SAEBenchAutoencoder, to_saebench
from sparsact.sae.evaluation.sparse_probing import SparseProbing, sparse_probing
from sparsact.sae.evaluation.spliced_model import SpliceMetrics, evaluate_spliced
from sparsact.sae.geometry import geometric_median
from sparsact.sae.interchange import load, load_saelens, load_sparsify, push_to_hub, save_saelens
from sparsact.sae.kinds import KINDS, GatedReLU, Kind
from sparsact.sae.sae_config import SAEConfig, SAETrainConfig
from sparsact.sae.sae_files import load_sae, save_sae
from sparsact.sae.sae_model import SparseAutoencoder
from sparsact.sae.trained_on import TrainedOn
from sparsact.sae.training.checkpoint import load_checkpoint, save_checkpoint
from sparsact.sae.training.end_to_end import EndToEndLoss, end_to_end_loss
from sparsact.sae.training.latent_sharded_trainer import LatentShardedTrainer
from sparsact.sae.training.sae_loss import OwnLoss
from sparsact.sae.training.sae_trainer import SAETrainer
from sparsact.sae.training.step_stats import SAEStats
from sparsact.text import Tokens, pack_tokens

__all__ = [
    "KINDS",
    "Absorption",
    "AttachedSite",
    "AttachedSites",
    "CrosscoderPenalty",
    "DictionaryMatch",
    "EndToEndLoss",
    "GatedReLU",
    "JoinedLayers",
    "Kind",
    "LatentShardedTrainer",
    "OwnLoss",
    "Rows",
    "SAEBenchAutoencoder",
    "SAEConfig",
    "SAEMetrics",
    "SAEStats",
    "SAETrainConfig",
    "SAETrainer",
    "SparseAutoencoder",
    "SparseProbing",
    "SpliceMetrics",
    "Steering",
    "Tokens",
    "TrainedOn",
    "absorption",
    "attach",
    "core_metrics",
    "decoder_cosines",
    "end_to_end_loss",
    "evaluate",
    "evaluate_spliced",
    "geometric_median",
    "harvest",
    "harvest_layers",
    "join_layers",
    "layer_fvu",
    "layer_norms",
    "load",
    "load_checkpoint",
    "load_sae",
    "load_saelens",
    "load_sparsify",
    "match_dictionaries",
    "open_rows",
    "pack_tokens",
    "push_to_hub",
    "save_checkpoint",
    "save_sae",
    "save_saelens",
    "sparse_probing",
    "steer",
    "stream_layers",
    "to_saebench",
]
