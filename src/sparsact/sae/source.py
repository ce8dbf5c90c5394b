"""Where activations come from, as flags: files, or a layer of a language model that reads text."""

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from sparsact.text import DatasetPart, Tokens, load_language_model, read_tokens


def check_at_least(flag: str, value: int | None, least: int) -> None:
    """Raise ValueError for the number of a flag that is too small; None is no number."""
    if value is not None and value < least:
        raise ValueError(f"--{flag.replace('_', '-')} must be at least {least}, got {value}")


@dataclass(frozen=True)
class Reading:
    """A language model, one of its layers, and the text it reads."""

    model: str | None = None
    """A Hugging Face model, a directory or a name on the hub."""
    gguf: str | None = None
    """File of the model, if its weights are in that format."""
    layer: str | None = None
    """Name of the module of the model whose output is taken, such as model.layers.15."""
    text: tuple[str, ...] = ()
    """What the model reads: text files, or datasets as hf:NAME (on the hub, or a directory)."""
    text_config: str | None = None
    """Configuration of the dataset, if it has several."""
    text_split: str = "train"
    """Split of the dataset."""
    text_column: str = "text"
    """Column of the dataset."""
    max_tokens: int | None = None
    """Read no more than this; needed for a dataset, which is streamed."""
    length: int = 512
    """Tokens in a row."""
    drop_bos: bool = True
    """Leave the activation at the BOS before each row out."""
    batch_rows: int = 8
    """Rows of tokens in a forward of the model."""

    def check(self) -> None:
        """Raise ValueError unless the flags are complete."""
        if self.model is None or self.layer is None or not self.text:
            raise ValueError(
                "--model (a directory or name), --layer (a module's name) and --text (files or "
                "hf:DATASET) go together"
            )
        for name in ("length", "batch_rows", "max_tokens"):
            check_at_least(name, getattr(self, name), 1)

    def load(self) -> tuple[nn.Module, str, Tokens]:
        """The model, the name of the layer, and the text.

        Raises:
            ValueError: flags are missing, or there is no text.
            OSError: there is no such model or file.
        """
        self.check()
        assert self.model is not None
        assert self.layer is not None
        model, tokenizer = load_language_model(self.model, self.gguf)
        return model, self.layer, self.tokens(tokenizer)

    def tokens(self, tokenizer: Any) -> Tokens:
        """The text, as that tokenizer cuts it."""
        part = DatasetPart(self.text_config, self.text_split, self.text_column)
        tokens = read_tokens(
            tokenizer, self.text, self.length, part=part, max_tokens=self.max_tokens
        )
        return tokens if self.drop_bos else replace(tokens, skip=0)


@dataclass(frozen=True)
class Source(Reading):
    """Files of activations, or instead a layer of a model and where its activations are kept."""

    data: str | None = None
    """A .npy or .safetensors file of activations (rows, width), or a directory of them; instead of
    a model."""
    cache: str | None = None
    """Directory of the model's activations; by default in the run."""
