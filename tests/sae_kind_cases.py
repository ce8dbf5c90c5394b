"""The table of autoencoder kinds: a row enrols a kind in all tests that kinds share."""

from collections.abc import Callable
from dataclasses import dataclass

from sparsact.sae import KINDS, SparseAutoencoder


@dataclass(frozen=True)
class KindCase:
    """What the shared tests need to know of a kind.

    Attributes:
        silence: makes the first latents dead, given their number.
    """

    silence: Callable[[SparseAutoencoder, int], None]


def lower_bias(sae: SparseAutoencoder, count: int) -> None:
    sae.encoder.bias.data[:count] = -1e3


def raise_thresholds(sae: SparseAutoencoder, count: int) -> None:
    sae.activation.lambd.data[:count] = 1e3


def lower_magnitude(sae: SparseAutoencoder, count: int) -> None:
    sae.activation.bias.data[:count] = -1e3


KIND_CASES = {
    "relu": KindCase(lower_bias),
    "topk": KindCase(lower_bias),
    "batch_topk": KindCase(lower_bias),
    "jumprelu": KindCase(raise_thresholds),
    "softshrink": KindCase(raise_thresholds),
    "gated": KindCase(lower_magnitude),
}
PENALIZED = [name for name in KIND_CASES if not KINDS[name].selects]
EXPORTED = [name for name in KIND_CASES if KINDS[name].saelens_writes]
EXPORTED_TRANSCODERS = [name for name in KIND_CASES if KINDS[name].saelens_writes_transcoder]
