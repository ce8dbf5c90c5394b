"""How the entries of a tensor form groups, and the norms of these groups."""

import math

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.thresholds.arguments import (
    as_integer,
    broadcasts_to,
    check_mask,
    checked_magnitude,
    widen_like,
)
from sparsact.thresholds.backward import sum_to
from sparsact.thresholds.complex_modulus import moduli, ratio, scale
from sparsact.thresholds.softshrink import softshrink

Dims = int | tuple[int, ...]


class Groups:
    """How the entries of a tensor are grouped, checked against its shape.

    Args:
        x: the tensor; only its shape is read.
        dim: the dim, or dims, along which entries form groups.
        group_size: None makes all of `dim` one group; a number cuts one `dim` into contiguous
            groups of that size.

    Raises:
        ValueError: a dim does not exist or occurs twice, or `group_size` does not divide it or
            comes with several dims.
    """

    def __init__(self, x: Tensor, dim: Dims, group_size: int | None) -> None:
        ndim = max(x.ndim, 1)
        dims = tuple(dim) if isinstance(dim, (tuple, list)) else (dim,)
        chosen = tuple(as_integer(d, "dim") for d in dims)
        if not chosen or not all(-ndim <= d < ndim for d in chosen):
            raise InputError(f"dim={dim} does not exist in an input of shape {tuple(x.shape)}")
        self.dims = tuple(d if d < 0 else d - ndim for d in chosen)
        if len(set(self.dims)) < len(self.dims):
            raise InputError(f"dim={dim} contains a dim twice")
        self.group_size = group_size
        if group_size is not None:
            self.group_size = as_integer(group_size, "group_size")
            self._check_size(x)
        self.norm_shape = self._norm_shape(x)

    def __repr__(self) -> str:  # torch.jit.trace compares it between two traces
        return f"Groups({self.dims}, {self.group_size})"

    def _check_size(self, x: Tensor) -> None:
        size = self.group_size
        if len(self.dims) > 1:
            raise InputError(f"group_size={size} needs a single dim, got {self.dims}")
        length = x.shape[self.dims[0]] if x.ndim else 0
        if size is None or size < 1 or x.ndim == 0 or length % size:
            raise InputError(
                f"group_size={size} does not divide dim {self.dims[0]} of size {length} in an "
                f"input of shape {tuple(x.shape)}"
            )

    def _norm_shape(self, x: Tensor) -> tuple[int, ...]:
        shape = list(x.shape)
        for d in self.dims if x.ndim else ():
            shape[d] = 1 if self.group_size is None else shape[d] // self.group_size
        return tuple(shape)

    def broadcast(self, lambd: float | Tensor, name: str) -> float | Tensor:
        """The magnitude of λ, whose shape is checked against the shape of the norms."""
        lambd = checked_magnitude(lambd, name)
        if isinstance(lambd, Tensor) and not broadcasts_to(lambd.shape, self.norm_shape):
            raise InputError(
                f"{name}= of shape {tuple(lambd.shape)} does not broadcast to the shape of the "
                f"group norms {self.norm_shape}"
            )
        return lambd

    def split(self, x: Tensor) -> Tensor:
        """A view of `x` in which `dims` hold exactly one group."""
        if self.group_size is None:
            return x
        view: Tensor = x.unflatten(self.dims[0], (-1, self.group_size))
        return view

    def join(self, split: Tensor) -> Tensor:
        """The inverse of :meth:`split`."""
        if self.group_size is None:
            return split
        return split.flatten(self.dims[0] - 1, self.dims[0])

    def widen_lambd(self, lambd: float | Tensor, wide: Tensor) -> Tensor:
        """λ, of the shape of the norms, as a tensor that broadcasts against a split tensor."""
        wide_lambd = widen_like(lambd, wide)
        if self.group_size is None or wide_lambd.ndim < -self.dims[0]:
            return wide_lambd
        return wide_lambd.unsqueeze(self.dims[0])

    def members(self, x: Tensor, mask: Tensor | None) -> Tensor | None:
        """The entries that `mask` selects and that belong to a group; None for all."""
        return mask

    def entries(self, split: Tensor) -> int | Tensor:
        """The number of entries of a group of a split tensor."""
        return math.prod([split.shape[d] for d in self.dims])

    def sum(self, split: Tensor) -> Tensor:
        """The sum over each group of a split tensor; it broadcasts against the split tensor."""
        return split.sum(self.dims, keepdim=True)

    def amax(self, split: Tensor) -> Tensor:
        """The largest entry of each group of a split tensor, as in :meth:`sum`."""
        return split.amax(self.dims, keepdim=True)

    def length(self, split: Tensor) -> Tensor:
        """The norm of each group of a split tensor whose squares stay in range."""
        norm: Tensor = torch.linalg.vector_norm(split, 2, self.dims, keepdim=True)
        return norm

    def per_group(self, spread: Tensor) -> Tensor:
        """A result of :meth:`sum` or :meth:`norm` in the shape of the norms."""
        return spread.reshape(self.norm_shape)

    def norm(self, wide: Tensor) -> Tensor:
        """The norms of the groups of a split tensor; `dims` keep the size 1."""
        peak = wide.detach().abs().amax(self.dims, keepdim=True)
        unit = torch.where((peak > 0) & (peak < torch.inf), peak, 1.0)
        norm: Tensor = torch.linalg.vector_norm(wide / unit, dim=self.dims, keepdim=True)
        return unit * norm

    def shrink_complex(self, x: Tensor, lambd: float | Tensor) -> Tensor:
        """Group soft shrinkage of a complex tensor, by the norms of the moduli."""
        norm = self.norm(self.split(moduli(x)))
        shrunk = softshrink(norm, self.widen_lambd(lambd, norm))
        return self.join(scale(self.split(x), ratio(shrunk, norm)))

    def sum_to(self, gradient: Tensor, like: Tensor) -> Tensor:
        """Sum a gradient of the shape of a split tensor's norms to the shape of λ."""
        return sum_to(gradient if self.group_size is None else gradient.squeeze(self.dims[0]), like)


def zero_outside(x: Tensor, mask: Tensor | None) -> Tensor:
    """`x` where `mask` is True, else 0, so that masked entries add nothing to a norm."""
    if mask is None:
        return x
    check_mask(mask, x)
    return torch.where(mask, x, 0.0)
