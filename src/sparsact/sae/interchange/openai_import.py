"""Reading the autoencoders that OpenAI published for GPT-2."""

from pathlib import Path
from typing import Any

from sparsact._common.errors import InputError
from sparsact.sae.interchange.assembly import assembled
from sparsact.sae.interchange.foreign_files import Tensors, unsupported
from sparsact.sae.interchange.pickled_tensors import read_pickled, tensors_in
from sparsact.sae.sae_config import SAEConfig
from sparsact.sae.sae_model import SparseAutoencoder

STATISTICS = ("stats_last_nonzero", "latents_activation_frequency", "latents_mean_square")
"""Tensors that record the training and do not change what is computed."""


def load_openai(file: str | Path) -> SparseAutoencoder:
    """Read an autoencoder of OpenAI's ``sparse_autoencoder``.

    Those with TopK normalise each input by layer normalisation.

    Args:
        file: a file of ``torch.save``, such as ``8.pt``, with ``pre_bias`` and ``latent_bias``.

    Returns:
        a relu or top-k autoencoder, in float32 and eval mode.

    Raises:
        MissingInputError: a FileNotFoundError: there is no such file.
        InputError: a ValueError: the file would run code, is damaged, or holds another
            activation or unknown tensors.

    Source:
        ``Autoencoder`` of https://github.com/openai/sparse_autoencoder; checked against that
        formula.
    """
    file = Path(file)
    content = read_pickled(file)
    tensors = Tensors(file, tensors_in(content))
    tensors.ignore(*STATISTICS)
    d_sae, d_in = tensors.sizes("encoder.weight")
    sae = assembled(
        SAEConfig(d_in, d_sae, **_kind(content, file)),
        tensors.take("encoder.weight", d_sae, d_in),
        tensors.take("latent_bias", d_sae),
        tensors.take("decoder.weight", d_in, d_sae).T,
        tensors.take("pre_bias", d_in),
    )
    tensors.end()
    return sae


def _kind(content: dict[str, Any], file: Path) -> dict[str, Any]:
    """The settings that follow from the activation."""
    activation = content.get("activation", "ReLU")
    if activation == "ReLU":
        return {"activation": "relu"}
    if activation != "TopK":
        raise unsupported(f"the activation {activation!r}", ("ReLU", "TopK"), file)
    state = content.get("activation_state_dict") or {}
    after, k = state.get("postact_fn", "ReLU"), state.get("k")
    if after != "ReLU":
        raise unsupported(f"a TopK followed by {after!r}", ("ReLU",), file)
    if isinstance(k, bool) or not isinstance(k, int):
        raise InputError(f"k of the activation in {file} must be int, found {k!r}")
    return {"activation": "topk", "k": k, "normalize": "layer_norm"}
