"""A Hugging Face model and text files, as `harvest` takes them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from sparsact._extras import require
from sparsact.sae.activations.harvest import Tokens, pack_tokens


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
    where = {"revision": revision, **({"gguf_file": gguf} if gguf else {})}
    tokenizer = transformers.AutoTokenizer.from_pretrained(name, **where)
    model = transformers.AutoModelForCausalLM.from_pretrained(name, **where)
    return model.eval(), tokenizer


def read_tokens(tokenizer: Any, files: Sequence[str | Path], length: int = 512) -> Tokens:
    """The text of files, one after the other, as rows of tokens.

    A BOS stands before each row if the tokenizer has one, and its activation does not count.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no text in them, or a file that is not UTF-8.
    """
    ids: list[int] = []
    for file in files:
        try:
            text = Path(file).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{file} is not a text file in UTF-8: {error.reason}") from error
        ids += tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    if not ids:
        raise ValueError(f"there is no text in {', '.join(map(str, files)) or 'no file'}")
    return pack_tokens(ids, length, bos=tokenizer.bos_token_id)
