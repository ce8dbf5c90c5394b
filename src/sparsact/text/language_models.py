"""Loading a causal language model with its tokenizer."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from sparsact._common.devices import usable_device
from sparsact._common.errors import InputError, MissingInputError
from sparsact._common.extras import require


def load_language_model(
    model: str,
    gguf: str | None = None,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    device: str = "cpu",
    offload: bool = False,
) -> tuple[nn.Module, Any]:
    """Load a causal language model, in eval mode, and its tokenizer.

    Args:
        model: a directory, or a name on the Hugging Face hub.
        gguf: file of the model, if its weights are in that format.
        revision: of a model on the hub.
        trust_remote_code: run the model's own code, if it comes with some.
        device: where the model goes.
        offload: leave the weights of the blocks in their files; accelerate reads those of each
            layer when it runs. For models larger than memory.

    Raises:
        MissingInputError: there is no such model or file.
        InputError: it is not a causal language model, its files are damaged, it has code of its
            own and `trust_remote_code` is False, there is no such device, or `offload` where the
            weights cannot be read one by one.
        ImportError: transformers (extra ``transformers``) or gguf (extra ``llm``) is missing.
    """
    transformers = require("transformers", "transformers")
    where = usable_device(device)
    if gguf is not None:
        require("gguf", "llm")
    _check_files(model, gguf)
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    options |= {"gguf_file": gguf} if gguf else {}
    with _without_progress_bars(transformers):
        config = _load(transformers.AutoConfig, model, options)
        _check_kind(transformers, model, config)
        tokenizer = _load(transformers.AutoTokenizer, model, options)
        if offload:
            options |= {"device_map": _blocks_on_disk(transformers, config, where, gguf)}
        loaded: nn.Module = _load(transformers.AutoModelForCausalLM, model, options)
    return (loaded if offload else loaded.to(where)).eval(), tokenizer


def _blocks_on_disk(
    transformers: Any, config: Any, device: torch.device, gguf: str | None
) -> dict[str, str]:
    """Where accelerate puts each part: the longest list of modules stays on the disk.

    Raises:
        InputError: a GGUF file, or no list of blocks.
    """
    if gguf is not None:
        raise InputError("offload= needs safetensors: a GGUF file is read as a whole")
    with torch.device("meta"):
        model: nn.Module = transformers.AutoModelForCausalLM.from_config(config)
    lists = {n: module for n, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    if not lists:
        raise InputError(f"offload= finds no list of blocks in a {type(model).__name__}")
    blocks = max(lists, key=lambda name: len(lists[name]))
    places, part, path = {blocks: "disk"}, model, ""
    for step in blocks.split("."):
        rest = [name for name, _ in part.named_children() if name != step]
        rest += [name for name, _ in part.named_parameters(recurse=False)]
        places |= {path + name: str(device) for name in rest}
        part, path = part.get_submodule(step), f"{path}{step}."
    return places


def _check_files(model: str, gguf: str | None) -> None:
    """Find mistakes in a path; the messages of transformers are about the hub."""
    folder = Path(model)
    if not folder.is_dir():
        if folder.exists():
            both = ", and the file as gguf=" if folder.suffix == ".gguf" else ""
            raise InputError(f"{model} is a file: give the directory of the model as model={both}")
        if folder.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
            raise MissingInputError(f"there is no directory {model}")
        return
    if gguf is None and not (folder / "config.json").is_file():
        files = sorted(file.name for file in folder.glob("*.gguf"))
        hint = f": its weights can be read with gguf={files[0]}" if files else ""
        raise MissingInputError(f"{model} holds no model (no config.json){hint}")
    if gguf is not None and not (folder / gguf).is_file():
        raise MissingInputError(f"there is no file {gguf} in {model}")


def _load(loader: Any, model: str, options: dict[str, Any]) -> Any:
    """What one of the classes of transformers loads."""
    try:
        return loader.from_pretrained(model, **options)
    except (OSError, ValueError, SafetensorError) as error:
        if Path(model).is_dir():
            raise InputError(f"{model} cannot be loaded: {error}") from error
        raise MissingInputError(
            f"there is no model {model!r}: no such directory, and the hub gave none ({error})"
        ) from error


def _check_kind(transformers: Any, model: str, config: Any) -> None:
    """Raise InputError unless the configuration is that of a causal language model."""
    known = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    stored = config.architectures or []
    if "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {}):
        return  # a class of the model's own
    if type(config) not in transformers.AutoModelForCausalLM._model_mapping or (
        stored and not set(stored) & set(known.values())
    ):
        kind = ", ".join(stored) or config.model_type
        raise InputError(f"{model} is not a causal language model but a {kind}")


@contextmanager
def _without_progress_bars(transformers: Any) -> Iterator[None]:
    """A block in which transformers shows no bars of its own."""
    logging = transformers.utils.logging
    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()
