"""Where the activations of a run come from: files, or a layer of a language model."""

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from sparsact._common.errors import InputError
from sparsact.text import DatasetPart, Tokens, load_language_model, read_tokens


def check_at_least(name: str, value: int | None, least: int) -> None:
    """Raise InputError if the argument `name` is smaller than `least`. None is accepted."""
    if value is not None and value < least:
        raise InputError(f"{name}= must be at least {least}, got {value}")


@dataclass(frozen=True)
class LayerReading:
    """A language model, one of its layers, and the text it reads."""

    model: str | None = None
    """A Hugging Face model: a directory, or a name on the hub."""
    gguf: str | None = None
    """File in the model's directory, for weights in GGUF format."""
    layer: str | None = None
    """Name of the module of the model whose output is used, such as model.layers.15."""
    text: tuple[str, ...] = ()
    """Text for the model: text files, or datasets as hf:NAME (on the hub, or a directory)."""
    text_config: str | None = None
    """Configuration of the dataset, if it has several."""
    text_split: str = "train"
    """Split of the dataset."""
    text_column: str = "text"
    """Column of the dataset that holds the text."""
    max_tokens: int | None = None
    """Largest number of tokens to read. Required for a dataset, which is streamed."""
    length: int = 512
    """Tokens in a row."""
    drop_bos: bool = True
    """Leave out the activation at the BOS token, which starts each row."""
    batch_rows: int = 8
    """Rows of tokens in a forward of the model."""

    def check(self) -> None:
        """Raise InputError if a field is missing or too small."""
        if self.model is None or self.layer is None or not self.text:
            raise InputError(
                "model= (a directory or name), layer= (a module's name) and text= (files or "
                "hf:DATASET) go together"
            )
        for name in ("length", "batch_rows", "max_tokens"):
            check_at_least(name, getattr(self, name), 1)

    def load(self) -> tuple[nn.Module, str, Tokens]:
        """The model, the name of the layer, and the text.

        Raises:
            InputError: a field is missing, there is no such model or file, or there is no text.
        """
        self.check()
        assert self.model is not None
        assert self.layer is not None
        model, tokenizer = load_language_model(self.model, self.gguf)
        return model, self.layer, self.tokens(tokenizer)

    def tokens(self, tokenizer: Any) -> Tokens:
        """The text as rows of tokens."""
        part = DatasetPart(self.text_config, self.text_split, self.text_column)
        tokens = read_tokens(
            tokenizer, self.text, self.length, part=part, max_tokens=self.max_tokens
        )
        return tokens if self.drop_bos else replace(tokens, skip=0)


@dataclass(frozen=True)
class ActivationSource(LayerReading):
    """Files of activations, or a layer of a model."""

    data: str | None = None
    """A .npy or .safetensors file of activations (rows, width), or a directory of such files.
    Replaces the model."""
    cache: str | None = None
    """Directory for the model's activations. By default they are stored in the run."""
