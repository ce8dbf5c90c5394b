"""Normalisations of each input by itself, which the reconstruction undoes."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Normalize = Literal["none", "layer_norm", "unit_norm"]
"""How each input is normalised before it is scaled and encoded.

``layer_norm``: (x − mean) / (std + 1e-5), with the standard deviation of a sample.
``unit_norm``: x · √d / ‖x‖.
"""

EPSILON = 1e-5


class NormalizedRows(NamedTuple):
    """Normalised rows, and what undoes it: ``rows · scale + shift``.

    Attributes:
        rows: (…, d_in).
        scale: (…, 1).
        shift: (…, 1).
    """

    rows: Tensor
    scale: Tensor
    shift: Tensor


def _layer_norm(x: Tensor) -> NormalizedRows:
    mean, std = x.mean(-1, keepdim=True), x.std(-1, keepdim=True)
    return NormalizedRows((x - mean) / (std + EPSILON), std, mean)


def _unit_norm(x: Tensor) -> NormalizedRows:
    scale = torch.linalg.vector_norm(x, dim=-1, keepdim=True) / math.sqrt(x.shape[-1])
    return NormalizedRows(x / scale, scale, torch.zeros_like(scale))


ROW_NORMS: dict[str, Callable[[Tensor], NormalizedRows]] = {
    "layer_norm": _layer_norm,
    "unit_norm": _unit_norm,
}
"""Name → normalisation, besides ``"none"``."""
