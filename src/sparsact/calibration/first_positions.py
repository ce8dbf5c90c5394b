"""Finding the first tokens of each sequence, which stay dense."""

import threading
from typing import Any

import torch
from torch import Tensor, nn

from sparsact.calibration.token_masks import as_tokens_of
from sparsact.calibration.token_positions import (
    Counts,
    count_tokens,
    named_inputs,
    token_positions,
)


class FirstPositions(threading.local):
    """Which rows of an activation belong to the first tokens of a sequence, for each thread.

    What a model attends to when it has nothing to attend to ("attention sinks") are its first
    tokens; their activations are much larger than all others.
    """

    def __init__(self, keep_first: int) -> None:
        self.keep_first = keep_first
        self.first: Tensor | None = None  # of the forward that this thread is in
        self._encoded: tuple[Tensor, Tensor] | None = None  # an encoder's output, and its first
        self._began: tuple[dict[str, Any], Tensor] | None = None  # its inputs and positions
        self._counts: Counts = Counts()

    def __reduce__(self) -> tuple[type["FirstPositions"], tuple[int]]:
        """A copy is in no forward."""
        return FirstPositions, (self.keep_first,)

    def start(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Find them from a forward's inputs."""
        inputs = named_inputs(module, args, kwargs)
        positions = token_positions(inputs, self._counts, args[0] if args else None)
        self._began = inputs, positions
        self.first = self._among(positions)
        encoded = inputs.get("encoder_hidden_states")
        if self.first is not None and isinstance(encoded, Tensor) and encoded.ndim == 3:
            source = {"inputs_embeds": encoded}
            if "encoder_attention_mask" in inputs:
                source["attention_mask"] = inputs["encoder_attention_mask"]
            first = self._among(token_positions(source, self._counts))
            self._encoded = None if first is None else (encoded, first)

    def _among(self, positions: Tensor) -> Tensor | None:
        first = (positions >= 0) & (positions < self.keep_first)
        return first if bool(first.any()) else None

    def end(self, module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        """The forward is over; its output is None where it failed."""
        if self._began is not None and output is not None:
            inputs, positions = self._began
            count_tokens(inputs, output, self._counts, positions)
        self.first = self._encoded = self._began = None

    def restore(self, x: Tensor, shrunk: Tensor) -> Tensor:
        """`shrunk`, with the rows of the first tokens taken from `x`."""
        first = self.first
        if self._encoded is not None and x is self._encoded[0]:
            first = self._encoded[1]
        first = None if first is None else as_tokens_of(x, first)
        if first is None:
            return shrunk
        return torch.where(first.view(*x.shape[:-1], 1), x, shrunk)
