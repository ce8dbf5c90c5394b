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
    convolution or a batch norm, -1 after a linear layer or a layer norm. If there is none, the last
    layer counts whose output differs in one other dim only, such as a convolution whose padding was
    cut off.
    """

    def __init__(self) -> None:
        self._dims: dict[tuple[int, ...], int] = {}

    def note(self, function: Callable[..., Any], output: Any) -> None:
        """Note the output of a call of any function of torch."""
        if isinstance(output, Tensor):
            dim = self._made_by(function, output.ndim)
            if dim is not None:
                shape = tuple(output.shape)
                self._dims.pop(shape, None)  # the last noted is the last in order
                self._dims[shape] = dim

    def of(self, activation: Tensor) -> int:
        """The channel dim of an activation; by its number of dims if no layer has its shape."""
        shape = tuple(activation.shape)
        if shape in self._dims:
            return self._dims[shape]
        for noted, dim in reversed(self._dims.items()):
            if _differs_in_one_dim(noted, shape) and noted[dim] == shape[dim]:
                return dim
        return guessed_channel_dim(activation)

    @staticmethod
    def _made_by(function: Callable[..., Any], ndim: int) -> int | None:
        if function in _SPATIAL_DIMS:
            return ndim - _SPATIAL_DIMS[function] - 1
        if function in _CHANNELS_SECOND:
            return 1
        return LAST if function in _CHANNELS_LAST else None


def _differs_in_one_dim(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return len(one) == len(other) and sum(a != b for a, b in zip(one, other, strict=True)) == 1


def guessed_channel_dim(activation: Tensor) -> int:
    """1 for an activation with four dims or more (images, volumes), and otherwise -1."""
    return 1 if activation.ndim >= 4 else LAST
