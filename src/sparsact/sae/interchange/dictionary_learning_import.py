"""Reading what dictionary_learning wrote."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparsact.sae.interchange.assembly import assembled, set_levels_
from sparsact.sae.interchange.foreign_files import Tensors, setting, unsupported
from sparsact.sae.interchange.pickled_tensors import read_pickled, tensors_in
from sparsact.sae.sae_config import SAEConfig
from sparsact.sae.sae_model import SparseAutoencoder
from sparsact.sae.trained_on import TrainedOn
from sparsact.sae.weight_directory import read_object

WEIGHTS, SETTINGS = "ae.pt", "config.json"

KINDS = {
    "AutoEncoder": "relu",
    "AutoEncoderNew": "relu",
    "GatedAutoEncoder": "gated",
    "JumpReluAutoEncoder": "jumprelu",
    "AutoEncoderTopK": "topk",
    "BatchTopKSAE": "batch_topk",
    "MatryoshkaBatchTopKSAE": "batch_topk",
}
"""Class of dictionary_learning → the kind it is read as."""

NOT_SUBTRACTED = ("AutoEncoderNew", "JumpReluAutoEncoder")
"""Classes that do not subtract the decoder's bias from the input."""

DECODER_BIAS = ("b_dec", "bias", "decoder_bias", "decoder.bias")
"""Names of the decoder's bias, of which a file has one."""

ENCODER_BIAS = ("b_enc", "encoder.bias", "gate_bias")
"""Names of the encoder's bias."""


def load_dictionary_learning(path: str | Path) -> SparseAutoencoder:
    """Read an autoencoder that dictionary_learning saved.

    Latents are those of its ``from_pretrained``, which sets the rows of an ``AutoEncoder``'s
    decoder to length 1.

    Args:
        path: the directory of ``ae.pt`` and ``config.json``, or that ``ae.pt``.

    Returns:
        the autoencoder, in float32 and eval mode. The groups of a matryoshka autoencoder matter
        in training only.

    Raises:
        MissingInputError: a FileNotFoundError: a file is missing.
        InputError: a ValueError: the file would run code, is damaged, or holds another class or
            unknown tensors.

    Source:
        the classes of https://github.com/saprmarks/dictionary_learning; checked against files and
        outputs of version 0.1.0 of that library.
    """
    path = Path(path)
    folder = path.parent if path.name == WEIGHTS else path
    file = folder / WEIGHTS
    tensors = Tensors(file, tensors_in(read_pickled(file)))
    trainer = setting(read_object(folder / SETTINGS), "trainer", dict, folder / SETTINGS)
    name = trainer.get("dict_class")
    if name not in KINDS:
        raise unsupported(f"a {name} of dictionary_learning", KINDS, folder)
    sae = _read(tensors, name)
    tensors.end()
    sae.trained_on = _trained_on(trainer)
    return sae


def _read(tensors: Tensors, name: str) -> SparseAutoencoder:
    kind = KINDS[name]
    encoder, decoder = _matrix(tensors, "encoder", "W_enc"), _matrix(tensors, "decoder", "W_dec")
    d_sae, d_in = encoder.shape
    bias = _one_of(tensors, ENCODER_BIAS, d_sae)
    if name == "AutoEncoder":
        length = torch.linalg.vector_norm(decoder, dim=1)
        encoder, bias = encoder * length[:, None], bias * length
        decoder = decoder / length[:, None]
    k = int(tensors.take("k")) if kind in ("topk", "batch_topk") else 1
    tensors.ignore("group_sizes")
    sae = assembled(
        SAEConfig(d_in, d_sae, kind, k=k),
        encoder,
        bias,
        decoder,
        _one_of(tensors, DECODER_BIAS, d_in),
        subtracts_bias=name not in NOT_SUBTRACTED,
    )
    _set_thresholds_(sae, tensors, bias)
    return sae


def _matrix(tensors: Tensors, layer: str, own: str) -> Tensor:
    """(d_sae, width): an encoder or decoder, stored as a layer or as a tensor of its own."""
    if own in tensors:
        matrix = tensors.take(own, *tensors.sizes(own))
        return matrix.T if layer == "encoder" else matrix
    name = f"{layer}.weight"
    matrix = tensors.take(name, *tensors.sizes(name))
    return matrix if layer == "encoder" else matrix.T


def _one_of(tensors: Tensors, names: tuple[str, ...], size: int) -> Tensor:
    """The vector that has one of several names; the first is named if there is none."""
    name = next((name for name in names if name in tensors), names[0])
    return tensors.take(name, size)


@torch.no_grad()
def _set_thresholds_(sae: SparseAutoencoder, tensors: Tensors, bias: Tensor) -> None:
    kind, d_sae = sae.config.activation, sae.config.d_sae
    module: Any = sae.activation
    if kind == "jumprelu":
        set_levels_(sae, tensors.take("threshold", d_sae))
    elif kind == "batch_topk":
        module.running_threshold.copy_(tensors.take("threshold").clamp(min=0))
        module.num_batches_tracked.fill_(1)
    elif kind == "gated":
        scale = tensors.take("r_mag", d_sae)
        module.log_scale.copy_(scale)
        # both biases are added to the same product there; ours follows the gate's
        module.bias.copy_(tensors.take("mag_bias", d_sae) - scale.exp() * bias)
    else:
        tensors.ignore("threshold")  # an estimate that a top-k does not use


def _trained_on(trainer: dict[str, Any]) -> TrainedOn | None:
    layer, place = trainer.get("layer"), trainer.get("submodule_name")
    if not isinstance(layer, int):
        return None
    return TrainedOn(trainer.get("lm_name"), f"blocks.{layer}.hook_{place or 'unknown'}")
