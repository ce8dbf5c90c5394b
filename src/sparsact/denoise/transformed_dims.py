"""The dims of a tensor that are transformed; all others are a batch."""

from collections.abc import Iterable

from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.thresholds.arguments import as_integer

Dims = int | tuple[int, ...]


def last_dims(x: Tensor, dims: Dims, channel_dim: int | None) -> tuple[Tensor, tuple[int, ...]]:
    """`x` with the transformed dims moved to the end, and their places in `x` from the front."""
    axes = _axes(x, dims, channel_dim)
    return x.movedim(axes, tuple(range(-len(axes), 0))), axes


def back(moved: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Undo :func:`last_dims`."""
    return moved.movedim(tuple(range(-len(axes), 0)), axes)


def channel_axis(x: Tensor, channel_dim: int) -> int:
    """The channel dim counted from the front."""
    if not -x.ndim <= channel_dim < x.ndim:
        raise InputError(
            f"channel_dim={channel_dim} does not exist in an input of shape {tuple(x.shape)}"
        )
    return channel_dim % x.ndim


def _axes(x: Tensor, dims: Dims, channel_dim: int | None) -> tuple[int, ...]:
    choices = list(range(x.ndim))
    channel = None if channel_dim is None else channel_axis(x, channel_dim)
    if channel is not None:
        choices.remove(channel)
    if not isinstance(dims, Iterable):
        dims = as_integer(dims, "dims")
        if not 1 <= dims <= len(choices):
            raise InputError(
                f"dims={dims} must be between 1 and {len(choices)}, the number of dims of an input "
                f"of shape {tuple(x.shape)}"
                + ("" if channel is None else " without channels")
                + (": a signal has dims=1" if len(choices) == 1 else "")
            )
        return tuple(choices[len(choices) - dims :])
    axes = tuple(sorted(dim % x.ndim for dim in dims if -x.ndim <= dim < x.ndim))
    if not axes or len(axes) != len(dims) or len(set(axes)) != len(axes) or channel in axes:
        raise InputError(
            f"dims={dims} must name different dims of an input of shape {tuple(x.shape)}"
            + ("" if channel is None else f", other than channel_dim={channel_dim}")
        )
    return axes
