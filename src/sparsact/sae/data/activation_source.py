"""Where the activations of a run come from: files, or a layer of a language model."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn

from sparsact._common.errors import InputError, unknown
from sparsact.text import DatasetPart, Tokens, load_language_model, read_tokens

DType = Literal["float32", "bfloat16", "float16"]
DTYPES = ("float32", "bfloat16", "float16")
AUTO = "auto"


def check_at_least(name: str, value: float | None, least: float) -> None:
    """Raise InputError if the argument `name` is smaller than `least`. None is accepted."""
    if value is not None and not value >= least:
        raise InputError(f"{name}= must be at least {least}, got {value}")


@dataclass(frozen=True)
class LayerReading:
    """A language model, one of its layers, and the text it reads."""

    model: str | None = None
    """A Hugging Face model: a directory, or a name on the hub."""
    gguf: str | None = None
    """File in the model's directory, for weights in GGUF format."""
    layer: str | None = None
    """Name of the module of the model whose activations are used, such as model.layers.15; or of a
    hook of TransformerLens, such as blocks.15.hook_resid_post. For training, a pattern may match
    several."""
    site: Literal["output", "input"] = "output"
    """Whether the output of the module is used, or its input."""
    device: str = AUTO
    """Device of the model. auto: an accelerator if there is one, else the CPU."""
    dtype: DType | None = None
    """Dtype of the model's weights. By default as they are loaded."""
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
    separator: bool = True
    """Put an EOS between documents, if the tokenizer has one."""
    drop_bos: bool = True
    """Leave out the activations at the BOS, which starts each row, and at BOS and EOS elsewhere."""
    drop_tokens: tuple[int, ...] = ()
    """Ids of further tokens whose activations are left out."""
    drop_first: int = 0
    """Leave out the activations at so many leading tokens of each row, the BOS included."""
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
        check_at_least("drop_first", self.drop_first, 0)
        if self.drop_first >= self.length:
            raise InputError(f"drop_first={self.drop_first} leaves nothing of length={self.length}")
        if self.dtype not in (None, *DTYPES):
            raise unknown("dtype", str(self.dtype), DTYPES)

    def load(self) -> tuple[nn.Module, str, Tokens]:
        """The model, the name of the layer, and the text.

        Raises:
            InputError: a field is missing, there is no such model, device or file, or there is no
                text.
        """
        model, tokenizer = self.load_model()
        assert self.layer is not None
        return model, self.layer, self.tokens(tokenizer)

    def load_model(self) -> tuple[nn.Module, Any]:
        """The model on its device, and its tokenizer."""
        self.check()
        assert self.model is not None
        device = self.device
        if device == AUTO:
            best = torch.accelerator.current_accelerator()
            device = "cpu" if best is None or not torch.accelerator.is_available() else best.type
        model, tokenizer = load_language_model(self.model, self.gguf, device=device)
        return model if self.dtype is None else model.to(getattr(torch, self.dtype)), tokenizer

    def tokens(self, tokenizer: Any) -> Tokens:
        """The text as rows of tokens."""
        tokens = read_tokens(
            tokenizer,
            self.text,
            self.length,
            part=DatasetPart(self.text_config, self.text_split, self.text_column),
            max_tokens=self.max_tokens,
            separator=tokenizer.eos_token_id if self.separator else None,
        )
        ends = {tokenizer.bos_token_id, tokenizer.eos_token_id} - {None}
        left_out = {*self.drop_tokens, *(ends if self.drop_bos else ())}
        found = left_out & set(tokens.ids[tokens.kept()].tolist())
        skip = max(tokens.skip if self.drop_bos else 0, self.drop_first)
        return replace(tokens, skip=skip, left_out=tuple(sorted(found)))


@dataclass(frozen=True)
class ActivationSource(LayerReading):
    """Files of activations, or a layer of a model."""

    data: str | None = None
    """A .npy or .safetensors file of activations (rows, width), or a directory of such files.
    Replaces the model."""
    cache: str | None = None
    """Directory for the model's activations. By default they are stored in the run."""
    cache_dtype: DType = "float32"
    """Dtype of the stored activations; bfloat16 takes half of the space."""
    stream: bool = False
    """Store nothing: the model reads the text while the autoencoder is trained. Each pass over the
    text runs the model again."""
    max_norm: float | None = None
    """Leave out activations whose norm is above so many medians of the norms near them."""

    def check(self) -> None:
        """Raise InputError if a field is missing or too small, or two contradict each other."""
        super().check()
        check_at_least("max_norm", self.max_norm, 1)
        if self.cache_dtype not in DTYPES:
            raise unknown("cache_dtype", self.cache_dtype, DTYPES)
        if self.stream and self.cache is not None:
            raise InputError("stream= stores no activations: leave out cache=")
