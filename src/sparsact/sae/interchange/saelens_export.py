"""Writing files of SAELens."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sparsact._common.errors import InputError
from sparsact._common.run_directory import versions
from sparsact.sae.interchange.foreign_files import SETTINGS
from sparsact.sae.interchange.saelens_import import NORMALIZATIONS as READ
from sparsact.sae.interchange.saelens_import import SKIP, TRANSCODER, WEIGHTS
from sparsact.sae.kinds import KINDS
from sparsact.sae.sae_model import SparseAutoencoder
from sparsact.sae.trained_on import HOOK, TrainedOn
from sparsact.sae.weight_directory import replace_directory

VERSION = "6.54.0"
"""The version of SAELens whose format is written."""

NORMALIZATIONS = {"none": "none", **{ours: theirs for theirs, ours in READ.items()}}
"""Our normalisation of each input → that of SAELens."""


def save_saelens(
    sae: SparseAutoencoder, path: str | Path, metadata: Mapping[str, Any] | None = None
) -> Path:
    """Write an autoencoder so that ``sae_lens.SAE.load_from_disk`` can read it.

    relu becomes a ``standard``, topk a ``topk``, jumprelu a ``jumprelu`` and gated a ``gated``.
    batch_topk becomes a ``jumprelu`` with its running threshold: this is what it computes in
    eval mode, and how SAELens saves its own. Transcoders with relu become a ``transcoder``, and
    with jumprelu or batch_topk a ``jumprelu_transcoder``; with a skip connection, a
    ``skip_transcoder`` and a ``jumprelu_skip_transcoder``. The input scale is folded into the
    weights.

    Args:
        sae: not changed.
        path: the directory, new or empty.
        metadata: entries that SAELens keeps beside the settings, such as ``hook_name`` and
            ``model_name``. Those two are taken from ``sae.trained_on`` if they are not given.

    Returns:
        the directory, with ``cfg.json`` and ``sae_weights.safetensors``.

    Raises:
        InputError: a ValueError: the directory is not empty, or SAELens has no autoencoder of
            that kind (softshrink, selection by magnitude, a module of your own, a transcoder
            with topk or gated).

    Example:
        >>> import tempfile
        >>> import torch
        >>> from sparsact.sae import SAEConfig, load_saelens
        >>> sae = SparseAutoencoder(SAEConfig(d_in=4, d_sae=16, k=2)).eval()
        >>> with tempfile.TemporaryDirectory() as path:
        ...     loaded = load_saelens(save_saelens(sae, path))
        >>> x = torch.randn(5, 4)
        >>> torch.equal(loaded.encode(x), sae.encode(x))
        True
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path} exists and is not an empty directory: choose another one")
    folded = copy.deepcopy(sae).fold_scale_()
    settings, tensors = _shared(folded)
    settings |= {
        "architecture": _architecture(folded),
        "metadata": _metadata(folded, metadata or {}),
    }
    if folded.scale_in != 1:
        raise InputError(
            f"the scale of training cannot be folded into the fixed level of {sae.activation}, and "
            "SAELens cannot store it: train with learnable=True or normalize_input=False"
        )
    settings |= folded.kind.saelens_settings()
    tensors |= folded.kind.saelens_tensors(folded.encoder.bias.float())
    return replace_directory(path, tensors, settings, (WEIGHTS, SETTINGS))


def _shared(sae: SparseAutoencoder) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The settings and tensors of all architectures."""
    config = sae.config
    settings: dict[str, Any] = {
        "d_in": config.d_in,
        "d_sae": config.d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": not config.is_transcoder,
        "normalize_activations": NORMALIZATIONS[config.normalize],
        "reshape_activations": "none",
    }
    if config.is_transcoder:
        settings["d_out"] = config.width_out
    tensors = {"W_enc": sae.encoder.weight.T, "W_dec": sae.W_dec, "b_dec": sae.b_dec}
    if sae.W_skip is not None:
        tensors["W_skip"] = sae.W_skip
    return settings, {name: value.float() for name, value in tensors.items()}


def _architecture(sae: SparseAutoencoder) -> str:
    """The architecture of SAELens."""
    kind, is_transcoder = sae.kind, sae.config.is_transcoder
    name = kind.saelens_writes_transcoder if is_transcoder else kind.saelens_writes
    if name is not None and kind.is_in_saelens():
        return name.replace(TRANSCODER, SKIP) if sae.config.skip else name
    autoencoders = [kind.name for kind in KINDS.values() if kind.saelens_writes]
    transcoders = [kind.name for kind in KINDS.values() if kind.saelens_writes_transcoder]
    raise InputError(
        f"SAELens has no {'transcoder' if is_transcoder else 'autoencoder'} with "
        f"{type(sae.activation).__name__} ({sae.config.activation!r}): autoencoders with "
        f"{', '.join(autoencoders)} and transcoders with {', '.join(transcoders)} can be exported"
    )


def _metadata(sae: SparseAutoencoder, own: Mapping[str, Any]) -> dict[str, Any]:
    origin = sae.trained_on or TrainedOn()
    recorded = {"model_name": origin.model}
    recorded["hook_name"] = origin.layer if HOOK in (origin.layer or "") else None
    known = {name: value for name, value in recorded.items() if value is not None}
    written_by = {"trained_with": f"sparsact {versions()['sparsact']}"}
    return {
        **known,
        **own,
        **written_by,
        "sae_lens_version": VERSION,
        "sae_lens_training_version": None,
    }
