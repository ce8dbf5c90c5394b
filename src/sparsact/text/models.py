"""Loading a causal language model with its tokenizer."""

from pathlib import Path
from typing import Any

from torch import nn

from sparsact._common.extras import require


def load_language_model(
    name: str, gguf: str | None = None, *, revision: str | None = None
) -> tuple[nn.Module, Any]:
    """A causal language model and its tokenizer.

    Args:
        name: a directory, or a name on the hub.
        gguf: file in it, for weights in that format.
        revision: of a model on the hub.

    Raises:
        OSError: there is no such model.
        ImportError: transformers is not installed (extra ``transformers``).
    """
    transformers = require("transformers", "transformers")
    if name.startswith(("/", ".", "~")) and not Path(name).is_dir():
        raise FileNotFoundError(f"there is no directory {name}")
    where = {"revision": revision, **({"gguf_file": gguf} if gguf else {})}
    tokenizer = transformers.AutoTokenizer.from_pretrained(name, **where)
    model = transformers.AutoModelForCausalLM.from_pretrained(name, **where)
    return model.eval(), tokenizer


def open_model(name: str, gguf: str | None = None) -> tuple[nn.Module, Any]:
    """A causal language model and its tokenizer.

    Args:
        name: a directory, or a name on the hub.
        gguf: file in it, for weights in that format.

    Raises:
        OSError: there is no such model or file.
        ValueError: it is no causal language model.
        ImportError: transformers is not installed (extra ``llm``).
    """
    transformers = require("transformers", "llm")
    if gguf is not None:
        require("gguf", "llm")
    _check_files(name, gguf)
    transformers.utils.logging.disable_progress_bar()  # the verbs show their own
    where = {"gguf_file": gguf} if gguf else {}
    try:
        config = transformers.AutoConfig.from_pretrained(name, **where)
    except OSError as error:
        raise OSError(
            f"there is no model {name!r}: no such directory, and the hub gave none ({error})"
        ) from error
    known = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    stored = config.architectures or []
    if type(config) not in transformers.AutoModelForCausalLM._model_mapping or (
        stored and not set(stored) & set(known.values())
    ):
        what = ", ".join(stored) or config.model_type
        raise ValueError(f"{name} is no causal language model: it holds a {what}")
    return load_language_model(name, gguf)


def _check_files(name: str, gguf: str | None) -> None:
    folder = Path(name)
    if not folder.is_dir():
        if folder.exists():
            raise NotADirectoryError(
                f"{name} is a file: give the directory of the model"
                + (" as --model and the file as --gguf" if folder.suffix == ".gguf" else "")
            )
        if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
            raise FileNotFoundError(f"there is no directory {name}")
        return
    if gguf is None and not (folder / "config.json").is_file():
        files = sorted(file.name for file in folder.glob("*.gguf"))
        hint = f": read its weights by --gguf {files[0]}" if files else ""
        raise FileNotFoundError(f"{name} holds no model (no config.json){hint}")
    if gguf is not None and not (folder / gguf).is_file():
        raise FileNotFoundError(f"there is no file {gguf} in {name}")
