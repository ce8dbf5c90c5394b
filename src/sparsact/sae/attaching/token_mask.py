"""Which positions of the current forward count: padding and leading tokens do not."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.hooks import Removable, Taps


class TokenMask(Removable):
    """Reads the mask, the positions and the cache from each call of a language model.

    Args:
        model: takes ``attention_mask`` and, with a cache, ``past_key_values``. Other models have
            neither; then all positions count, except leading ones.
    """

    def __init__(self, model: nn.Module) -> None:
        self._signature = inspect.signature(model.forward)
        self._inputs: dict[str, Any] | None = None
        self._taps = Taps({}, lambda name, x: None)
        self._taps.around(model, self._start, self._end)

    def counts(self, activation: Tensor, skip: int) -> Tensor | None:
        """(batch, length) bool: the positions that count; None if all do.

        Args:
            activation: (batch, length, width), or another shape, of which all rows count.
            skip: leading tokens of each text that do not count.

        Raises:
            InputError: `skip` is set, and the module ran outside of a forward of the model.
        """
        if activation.ndim != 3:
            return None
        if self._inputs is None:
            if skip:
                raise InputError(
                    "a module ran outside of a forward of the model, so its first tokens are "
                    "unknown: call the model itself, or pass skip=0"
                )
            return None
        batch, length, _ = activation.shape
        mask = _attention_mask(self._inputs, batch, length)
        if mask is None and not skip:
            return None
        positions = _positions(self._inputs, mask, length, activation.device)
        counted = (positions >= skip).expand(batch, length)
        return counted if mask is None else counted & mask[:, -length:].to(activation.device)

    def remove(self) -> None:
        """Remove the hooks."""
        self._taps.remove()

    def _start(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            self._inputs = self._signature.bind_partial(*args, **kwargs).arguments
        except TypeError:  # the forward itself says what is wrong
            self._inputs = kwargs

    def _end(self, *_: object) -> None:
        self._inputs = None


def _attention_mask(inputs: dict[str, Any], batch: int, length: int) -> Tensor | None:
    """(batch, past + length) bool, if the model got a mask of tokens that fits."""
    mask = inputs.get("attention_mask")
    if isinstance(mask, Tensor) and mask.ndim == 4:
        mask = _seen_by_the_last(mask)
    if not isinstance(mask, Tensor) or mask.ndim != 2:
        return None
    return mask.bool() if len(mask) == batch and mask.shape[1] >= length else None


def _seen_by_the_last(mask: Tensor) -> Tensor:
    """(batch, past + length) bool: what the last token attends to.

    Args:
        mask: (batch, 1, length, room), as ``generate`` makes it for a static cache: bool, or 0
            where a token may attend. The room behind the last token is not used yet.
    """
    row = mask[:, 0, -1]
    seen = row if row.dtype == torch.bool else row == 0
    used = int(seen.any(0).nonzero().max()) + 1 if bool(seen.any()) else 0
    return seen[:, :used]


def _positions(
    inputs: dict[str, Any], mask: Tensor | None, length: int, device: torch.device
) -> Tensor:
    """(batch or 1, length): the place of each token in its text."""
    positions = inputs.get("position_ids")
    if isinstance(positions, Tensor) and positions.ndim == 2 and positions.shape[1] == length:
        return positions.to(device)
    if mask is not None:
        return (mask.cumsum(1) - 1)[:, -length:].to(device)
    past: Any = inputs.get("past_key_values")
    seen = past.get_seq_length() if hasattr(past, "get_seq_length") else 0
    return (seen + torch.arange(length, device=device))[None]
