"""Reading the autoencoders and transcoders of Gemma Scope 1 and 2."""

import math
import re
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sparsact._common.errors import InputError, MissingInputError
from sparsact.sae.interchange.assembly import assembled, set_levels_
from sparsact.sae.interchange.foreign_files import Tensors, unsupported
from sparsact.sae.sae_config import SAEConfig
from sparsact.sae.sae_model import SparseAutoencoder
from sparsact.sae.trained_on import TrainedOn
from sparsact.sae.weight_directory import read_object

ARRAYS, TENSORS, SETTINGS = "params.npz", "params.safetensors", "config.json"

PLACES = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": "attn.hook_z"}
"""Part of the name of a repository → the hook it was trained on."""

MATRICES = ("w_enc", "w_dec")
"""Their names; some files write them with a capital W."""

SKIP = "affine_skip_connection"

TRANSCODER = r"transcoders?(_all)?|.*gemma-scope.*transcoders?"
"""Names of directories of transcoders."""

DEPTH = 6
"""Number of directories in the cache of the hub from the repository to a file."""


def load_gemma_scope(path: str | Path) -> SparseAutoencoder:
    """Read an autoencoder or a transcoder of Gemma Scope.

    The files of version 1 do not say what they are. Those in a directory ``transcoder``, or in a
    repository of transcoders, are read as transcoders; those in a directory ``embedding`` as
    autoencoders of the scaled embedding, whose factor √d is folded into the weights.

    Args:
        path: the directory of ``params.npz`` (version 1), or of ``params.safetensors`` and
            ``config.json`` (version 2); or that ``params.npz``.

    Returns:
        a jumprelu autoencoder or transcoder, in float32 and eval mode.

    Raises:
        MissingInputError: a FileNotFoundError: a file is missing.
        InputError: a ValueError: a file is damaged, would run code, or holds another
            architecture, a cross-layer transcoder or unknown tensors.

    Source:
        Lieberum et al., "Gemma Scope" (2024), eq. 3 and 4: the decoder's bias is not subtracted
        from the input. Checked against that formula.
    """
    path = Path(path)
    folder = path.parent if path.name == ARRAYS else path
    if (folder / TENSORS).is_file():
        return _version_2(folder)
    tensors = Tensors(folder / ARRAYS, _read_arrays(folder / ARRAYS))
    sae = _read(
        tensors,
        is_transcoder=_is_in(folder, TRANSCODER),
        is_scaled=_is_in(folder, "embedding"),
    )
    sae.trained_on = _place(folder)
    return sae


def _version_2(folder: Path) -> SparseAutoencoder:
    settings = read_object(folder / SETTINGS)
    architecture = settings.get("architecture")
    if architecture != "jump_relu":
        raise unsupported(f"the architecture {architecture!r}", ("jump_relu",), folder)
    read_at, written_at = settings.get("hf_hook_point_in"), settings.get("hf_hook_point_out")
    is_transcoder = _is_in(folder, TRANSCODER) or (written_at or read_at) != read_at
    sae = _read(Tensors(folder / TENSORS), is_transcoder, is_scaled=False)
    if isinstance(read_at, str):
        layer, _, site = read_at.rpartition(".")
        named = site in ("input", "output")
        sae.trained_on = TrainedOn(
            settings.get("model_name"),
            layer if named else read_at,
            "input" if named and site == "input" else "output",
        )
    return sae


def _read(tensors: Tensors, is_transcoder: bool, is_scaled: bool) -> SparseAutoencoder:
    names = {name: name if name in tensors else name.replace("w_", "W_") for name in MATRICES}
    d_in, d_sae = tensors.sizes(names["w_enc"])
    _, d_out = tensors.sizes(names["w_dec"])
    skip = SKIP in tensors
    factor = math.sqrt(d_in) if is_scaled else 1.0
    config = SAEConfig(
        d_in, d_sae, "jumprelu", d_out=d_out if is_transcoder or skip else None, skip=skip
    )
    sae = assembled(
        config,
        tensors.take(names["w_enc"], d_in, d_sae).T / factor,
        tensors.take("b_enc", d_sae),
        tensors.take(names["w_dec"], d_sae, config.width_out) * factor,
        tensors.take("b_dec", config.width_out),
        subtracts_bias=False,
    )
    set_levels_(sae, tensors.take("threshold", d_sae))
    if sae.W_skip is not None:
        sae.W_skip.data.copy_(tensors.take(SKIP, d_out, d_in))
    if "scaling_factor" in tensors and not bool((tensors.take("scaling_factor", d_sae) == 1).all()):
        raise unsupported("a scaling_factor", ("files without one",), tensors.file)
    tensors.end()
    return sae


def _is_in(folder: Path, pattern: str) -> bool:
    """Whether a directory, or one of the nearest above it, has a name of that pattern."""
    return any(re.fullmatch(pattern, part) for part in folder.parts[-DEPTH:])


def _read_arrays(file: Path) -> dict[str, Tensor]:
    """The arrays of a .npz file."""
    if not file.is_file():
        raise MissingInputError(f"{file.parent} holds no {file.name}")
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name].astype(np.float32)) for name in arrays}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{file} is not a complete .npz file of numbers: {error}") from error


def _place(folder: Path) -> TrainedOn | None:
    """Model and layer, from a path such as ``gemma-scope-2b-pt-res/layer_12/width_16k/…``."""
    text = str(folder)
    layer = re.search(r"layer_(\d+)", text)
    name = re.search(r"gemma-scope-(\d+b)-(pt|it)-(res|mlp|att|transcoders)", text)
    if layer is None:
        return None
    model = f"google/gemma-2-{name[1]}{'-it' if name[2] == 'it' else ''}" if name else None
    return TrainedOn(model, f"blocks.{layer[1]}.{PLACES.get(name[3] if name else '', 'hook_in')}")
