"""The sparse encoder of the kinds whose latents have thresholds of their own."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from sparsact.kernels import linear_threshold
from sparsact.sae.kinds.kind import SparseEncoding


def encode_above(
    encoder: nn.Linear,
    centered: Tensor,
    level: float | Tensor,
    latents_at: Callable[[Tensor, Tensor], Tensor],
    by: Literal["value", "magnitude"] = "value",
) -> SparseEncoding:
    """Encode with the pre-activations that exceed a level, found while they are computed.

    Args:
        encoder: from d_in to d_sae.
        centered: (batch, d_in), inputs as the encoder reads them.
        level: what a pre-activation must exceed: a number, or (d_sae,).
        latents_at: maps the pre-activations found and their columns, both (entries,), to the
            values of the latents.
        by: whether the value or the magnitude must exceed the level.
    """
    pre = linear_threshold(centered, encoder.weight, encoder.bias, level, by=by)
    latents = pre._replace(values=latents_at(pre.values, pre.columns))
    return SparseEncoding(latents, pre, latents)
