"""Finding the first tokens of each sequence, which stay dense."""

import threading
from typing import Any

import torch
from torch import Tensor, nn

from sparsact.calibration.token_masks import as_tokens_of, rows_and_length

_SEQUENCES = ("input_ids", "inputs_embeds", "decoder_input_ids", "decoder_inputs_embeds")


class FirstPositions(threading.local):
    """Which rows of an activation belong to the first tokens of a sequence, for each thread.

    What a model attends to when it has nothing to attend to ("attention sinks") are its first
    tokens; their activations are much larger than all others.
    """

    def __init__(self, keep_first: int) -> None:
        self.keep_first = keep_first
        self.first: Tensor | None = None  # of the forward that this thread is in

    def __reduce__(self) -> tuple[type["FirstPositions"], tuple[int]]:
        """A copy is in no forward."""
        return FirstPositions, (self.keep_first,)

    def start(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Find them from a model's inputs: token ids, attention mask and what is in the cache."""
        given = [name for name in _SEQUENCES if kwargs.get(name) is not None]
        found = kwargs[given[0]] if given else args[0] if args else None
        rows, length = rows_and_length(found)
        decoder = "decoder_" if given and given[0].startswith("decoder_") else ""
        mask = kwargs.get(f"{decoder}attention_mask")
        cache = kwargs.get("past_key_values")
        past = int(cache.get_seq_length()) if cache is not None else 0
        if length == 1 and kwargs.get("cache_params") is not None:  # Mamba's, which counts nothing
            past = self.keep_first
        if isinstance(mask, Tensor) and mask.ndim == 2:
            position = mask.long().cumsum(1)[:, -length:] - 1
        else:
            position = torch.arange(past, past + length).expand(rows, length)
        first = position < self.keep_first
        self.first = first if bool(first.any()) else None

    def end(self, *_: object) -> None:
        """The forward is over."""
        self.first = None

    def restore(self, x: Tensor, shrunk: Tensor) -> Tensor:
        """`shrunk`, with the rows of the first tokens taken from `x`."""
        first = None if self.first is None else as_tokens_of(x, self.first)
        if first is None:
            return shrunk
        return torch.where(first.view(*x.shape[:-1], 1), x, shrunk)
