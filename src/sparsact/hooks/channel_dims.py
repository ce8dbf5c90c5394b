"""Which dim of an activation holds the channels."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

LAST = -1
_SECOND = ("batch_norm", "instance_norm", "group_norm")
_LAST = (
    "addmm",
    "baddbmm",
    "bilinear",
    "bmm",
    "einsum",
    "embedding",
    "layer_norm",
    "linear",
    "matmul",
    "mm",
    "rms_norm",
    "scaled_dot_product_attention",
)


def _functions(names: tuple[str, ...]) -> set[Any]:
    places = (functional, torch, Tensor)
    return {getattr(place, name) for name in names for place in places if hasattr(place, name)}


_CHANNELS_SECOND = _functions(_SECOND)
_CHANNELS_LAST = _functions(_LAST) | {Tensor.__matmul__, Tensor.__rmatmul__}
_SPATIAL_DIMS = {
    getattr(place, f"conv{kind}{dims}d"): dims
    for place in (functional, torch)
    for kind in ("", "_transpose")
    for dims in (1, 2, 3)
}


class ChannelDims:
    """Remembers where the layers of a forward put their channels.

    An activation has the channel dim of the last layer with an output of its shape: 1 after a
    convolution or a batch norm, -1 after a linear layer or a layer norm.
    """

    def __init__(self) -> None:
        self._dims: dict[tuple[int, ...], int] = {}

    def note(self, function: Callable[..., Any], output: Any) -> None:
        """Note the output of a call of any function of torch."""
        if isinstance(output, Tensor):
            dim = self._made_by(function, output.ndim)
            if dim is not None:
                self._dims[tuple(output.shape)] = dim

    def of(self, activation: Tensor) -> int:
        """The channel dim of an activation; by its number of dims if no layer has its shape."""
        return self._dims.get(tuple(activation.shape), guessed_channel_dim(activation))

    @staticmethod
    def _made_by(function: Callable[..., Any], ndim: int) -> int | None:
        if function in _SPATIAL_DIMS:
            return ndim - _SPATIAL_DIMS[function] - 1
        if function in _CHANNELS_SECOND:
            return 1
        return LAST if function in _CHANNELS_LAST else None


def guessed_channel_dim(activation: Tensor) -> int:
    """1 for an activation with four dims or more (images, volumes), and otherwise -1."""
    return 1 if activation.ndim >= 4 else LAST
