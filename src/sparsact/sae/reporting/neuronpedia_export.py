"""Dashboards as the JSON that SAEDashboard writes and Neuronpedia imports."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from torch import Tensor

from sparsact._common.atomic import write_text
from sparsact._common.errors import InputError
from sparsact.report.autoencoder.autoencoder_records import Bars, Context, Latent, LatentGroup

BATCH = 128
"""Latents in a file, as SAEDashboard writes them."""

TOP = -1
"""Mark of the bin of the largest activations."""


@dataclass(frozen=True)
class DashboardText:
    """The text in which dashboards were made.

    Attributes:
        model: name of the model.
        layer: name of the module.
        rows: number of rows of tokens.
        length: tokens in a row.
        source: where the text is from.
    """

    model: str
    layer: str
    rows: int
    length: int
    source: str


def write_neuronpedia(
    groups: Iterable[LatentGroup], directions: Tensor, text: DashboardText, path: str | Path
) -> list[Path]:
    """Write dashboards in files of 128 latents, ``batch-0.json`` and so on.

    Neurons and features that correlate are not computed; their lists are empty.

    Args:
        groups: the dashboards.
        directions: (d_sae, width) of the decoder.
        text: what was read.
        path: the directory.

    Returns:
        the files.

    Raises:
        InputError: there is no dashboard, or the path is a file.
        OutputError: a file cannot be written.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise InputError(f"neuronpedia={path} is a file: give a directory")
    latents = sorted((one for group in groups for one in group.latents), key=lambda one: one.index)
    if not latents:
        raise InputError("neuronpedia= needs dashboards: choose latents, a model and a text")
    files = []
    for number, start in enumerate(range(0, len(latents), BATCH)):
        part = latents[start : start + BATCH]
        features = [_feature(one, directions[one.index], text) for one in part]
        content = {
            "model_id": text.model,
            "layer": _layer_number(text.layer),
            "sae_set": text.layer,
            "sae_id_suffix": None,
            "features": features,
        }
        file = path / f"batch-{number}.json"
        path.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(content) + "\n")
        files.append(file)
    return files


def _layer_number(layer: str) -> int:
    numbers = re.findall(r"\d+", layer)
    return int(numbers[0]) if numbers else 0


def _feature(latent: Latent, direction: Tensor, text: DashboardText) -> dict[str, Any]:
    values, heights = _bars(latent.histogram)
    largest = abs(latent.peak or 0.0)
    activations = [_activation(one, TOP, largest, TOP) for one in latent.contexts]
    share = 1 / max(len(latent.quantiles), 1)
    activations += [
        _activation(one, 0.0, abs(one.activations[one.peak]), share) for one in latent.quantiles
    ]
    return {
        "feature_index": latent.index,
        "neuron_alignment_indices": [],
        "neuron_alignment_values": [],
        "neuron_alignment_l1": [],
        "correlated_neurons_indices": [],
        "correlated_neurons_l1": [],
        "correlated_neurons_pearson": [],
        "correlated_features_indices": [],
        "correlated_features_l1": [],
        "correlated_features_pearson": [],
        "neg_str": [token for token, _ in latent.suppressed],
        "neg_values": [value for _, value in latent.suppressed],
        "pos_str": [token for token, _ in latent.promoted],
        "pos_values": [value for _, value in latent.promoted],
        "frac_nonzero": latent.density,
        "freq_hist_data_bar_values": values,
        "freq_hist_data_bar_heights": heights,
        "logits_hist_data_bar_heights": [],
        "logits_hist_data_bar_values": [],
        "n_prompts_total": text.rows,
        "n_tokens_in_prompt": text.length,
        "dataset": text.source,
        "decoder_weights_dist": [],
        "activations": activations,
        "vector": direction.float().tolist(),
    }


def _bars(histogram: Bars | None) -> tuple[list[float], Sequence[int]]:
    """Middle and height of each bar."""
    if histogram is None:
        return [], []
    edges = histogram.edges
    middles = [(low + high) / 2 for low, high in pairwise(edges)]
    return middles, list(histogram.counts)


def _activation(context: Context, low: float, high: float, share: float) -> dict[str, Any]:
    return {
        "bin_min": low,
        "bin_max": high,
        "bin_contains": share,
        "tokens": list(context.pieces),
        "values": list(context.activations),
        "qualifying_token_index": context.peak,
    }
