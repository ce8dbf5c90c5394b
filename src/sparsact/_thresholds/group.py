"""Shrinkage of whole groups: a group's norm decides whether its entries live."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from sparsact._thresholds.arguments import (
    Threshold,
    broadcast_threshold,
    broadcasts_to,
    check_input,
    check_mask,
    check_threshold,
    level_like,
    sum_to,
    widen,
)
from sparsact._thresholds.saving import keep, kept
from sparsact._thresholds.shrink import soft_part, where_nonzero

Dims = int | tuple[int, ...]


def group_softshrink(
    x: Tensor,
    lambd: Threshold = 0.5,
    dim: Dims = -1,
    group_size: int | None = None,
    *,
    mask: Tensor | None = None,
    zero_other: bool = False,
) -> Tensor:
    """Group soft shrinkage: ``max(1 − λ/‖x_g‖₂, 0)·x_g``, the proximal operator of ``λΣ‖x_g‖₂``.

    Args:
        x: any shape, floating point.
        lambd: λ ≥ 0, a float or a tensor that broadcasts to the shape of the group norms: that
            of `x` with the size of `dim` replaced by the number of groups along it.
        dim: the dim, or dims, along which entries form groups.
        group_size: None takes all of `dim` as one group; a number cuts one `dim` into
            contiguous groups of that size.
        mask: boolean, broadcasts to `x`; entries where it is False belong to no group.
        zero_other: entries outside `mask` become 0 instead of passing unchanged.

    Returns:
        a tensor of the shape and dtype of `x`. The norm is taken in float32 at least, without
        overflow or underflow on the way; ``‖x_g‖ = λ`` gives 0. A NaN makes its group NaN.

    Gradient:
        exact, from the output alone. For ``n = ‖x_g‖ > λ``: ``J = (1 − λ/n)·I + λ·x_g·x_gᵀ/n³``
        and ``∂λ = −x_g/n``; both 0 for ``n ≤ λ``.

    Raises:
        TypeError: `x` is not floating point.
        ValueError: λ is negative or not finite, or does not broadcast; `group_size` does not
            divide the size of `dim`, or comes with several dims.

    Example:
        >>> x = torch.tensor([3.0, 4.0, 0.3, 0.4])
        >>> group_softshrink(x, 1.0, group_size=2)
        tensor([2.4000, 3.2000, 0.0000, 0.0000])

    Source:
        Yuan & Lin, "Model selection and estimation in regression with grouped variables", JRSS
        B 68 (2006), eq. 2.4, without its factor √p.
    """
    check_input(x, "group_softshrink")
    groups = Groups(x, dim, group_size)
    lambd = groups.broadcast(lambd, "lambd")
    if x.numel() == 0:
        return x.clone()
    shrunk: Tensor = _GroupSoftshrink.apply(_where_mask(x, mask), lambd, groups)
    return _restrict(x, shrunk, mask, zero_other)


def sparse_group_softshrink(
    x: Tensor,
    lambd: Threshold = 0.5,
    group_lambd: Threshold = 0.5,
    dim: Dims = -1,
    group_size: int | None = None,
    *,
    mask: Tensor | None = None,
    zero_other: bool = False,
) -> Tensor:
    """Sparse-group shrinkage: soft shrinkage by λ₁ of the entries, then by λ₂ of the groups.

    The proximal operator of ``λ₁‖x‖₁ + λ₂Σ‖x_g‖₂``.

    Args:
        x: any shape, floating point.
        lambd: λ₁ ≥ 0, a float or a tensor that broadcasts to the shape of `x`.
        group_lambd: λ₂ ≥ 0, a float or a tensor that broadcasts to the shape of the group norms,
            as in :func:`group_softshrink`.
        dim: the dim, or dims, along which entries form groups.
        group_size: None takes all of `dim` as one group; a number cuts one `dim` into
            contiguous groups of that size.
        mask: boolean, broadcasts to `x`; entries where it is False belong to no group.
        zero_other: entries outside `mask` become 0 instead of passing unchanged.

    Returns:
        a tensor of the shape and dtype of `x`; ``|x| = λ₁`` gives 0, and so does a group of norm
        λ₂ after the first step. A NaN makes its group NaN.

    Gradient:
        exact, from the output alone: that of :func:`group_softshrink` on the entries that live,
        0 on the others.

    Raises:
        TypeError: `x` is not floating point.
        ValueError: as for :func:`group_softshrink`.

    Example:
        >>> x = torch.tensor([4.0, 5.0, 0.5, 1.3, 0.5, 0.5])
        >>> sparse_group_softshrink(x, 1.0, 1.0, group_size=3)
        tensor([2.4000, 3.2000, 0.0000, 0.0000, 0.0000, 0.0000])

    Source:
        Simon et al., "A sparse-group lasso", JCGS 22 (2013), sec. 3; Friedman et al., "A note
        on the group lasso and a sparse group lasso" (2010).
    """
    check_input(x, "sparse_group_softshrink")
    groups = Groups(x, dim, group_size)
    lambd = broadcast_threshold(lambd, x)
    group_lambd = groups.broadcast(group_lambd, "group_lambd")
    if x.numel() == 0:
        return x.clone()
    shrunk: Tensor = _SparseGroupSoftshrink.apply(_where_mask(x, mask), lambd, group_lambd, groups)
    return _restrict(x, shrunk, mask, zero_other)


class Groups:
    """How the entries of a tensor are grouped, checked against its shape.

    Args:
        x: the tensor, of which only the shape is read.
        dim: as in :func:`group_softshrink`.
        group_size: as in :func:`group_softshrink`.
    """

    def __init__(self, x: Tensor, dim: Dims, group_size: int | None) -> None:
        ndim = max(x.ndim, 1)
        chosen = (dim,) if isinstance(dim, int) else tuple(dim)
        if not chosen or not all(-ndim <= d < ndim for d in chosen):
            raise ValueError(f"dim={dim} does not exist in an input of shape {tuple(x.shape)}")
        self.dims = tuple(d if d < 0 else d - ndim for d in chosen)
        if len(set(self.dims)) < len(self.dims):
            raise ValueError(f"dim={dim} names a dim twice")
        self.group_size = group_size
        if group_size is not None:
            self._check_size(x)
        self.norm_shape = self._norm_shape(x)

    def _check_size(self, x: Tensor) -> None:
        size = self.group_size
        if len(self.dims) > 1:
            raise ValueError(f"group_size={size} needs a single dim, got {self.dims}")
        if size is None or size < 1 or x.ndim == 0 or x.shape[self.dims[0]] % size:
            raise ValueError(
                f"group_size={size} does not divide dim {self.dims[0]} of the input of shape "
                f"{tuple(x.shape)}"
            )

    def _norm_shape(self, x: Tensor) -> tuple[int, ...]:
        shape = list(x.shape)
        for d in self.dims if x.ndim else ():
            shape[d] = 1 if self.group_size is None else shape[d] // self.group_size
        return tuple(shape)

    def broadcast(self, lambd: Threshold, name: str) -> Threshold:
        """Check a threshold against the shape of the norms, as for an elementwise function."""
        check_threshold(lambd, name)
        if not isinstance(lambd, Tensor):
            return float(lambd)
        if not broadcasts_to(lambd.shape, self.norm_shape):
            raise ValueError(
                f"{name} of shape {tuple(lambd.shape)} does not broadcast to the shape of the "
                f"group norms {self.norm_shape}"
            )
        return lambd

    def split(self, x: Tensor) -> Tensor:
        """A view of `x` in which each group is all of `dims`."""
        if self.group_size is None:
            return x
        view: Tensor = x.unflatten(self.dims[0], (-1, self.group_size))
        return view

    def join(self, split: Tensor) -> Tensor:
        """The inverse of :meth:`split`."""
        if self.group_size is None:
            return split
        return split.flatten(self.dims[0] - 1, self.dims[0])

    def level(self, lambd: Threshold, wide: Tensor) -> Tensor:
        """A threshold of the shape of the norms, against a split tensor."""
        level = level_like(lambd, wide)
        if self.group_size is None or level.ndim < -self.dims[0]:
            return level
        return level.unsqueeze(self.dims[0])

    def norm(self, wide: Tensor) -> Tensor:
        """The norms of the groups of a split tensor, with `dims` kept at size 1."""
        peak = wide.detach().abs().amax(self.dims, keepdim=True)
        unit = torch.where((peak > 0) & (peak < torch.inf), peak, 1.0)
        norm: Tensor = torch.linalg.vector_norm(wide / unit, dim=self.dims, keepdim=True)
        return unit * norm

    def sum_to(self, gradient: Tensor, like: Tensor) -> Tensor:
        """Sum a gradient of the shape of a split tensor's norms to that of a threshold."""
        return sum_to(gradient if self.group_size is None else gradient.squeeze(self.dims[0]), like)


class _GroupSoftshrink(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, lambd: Threshold, groups: Groups) -> Tensor:
        return _shrink_groups(widen(x), lambd, groups).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Threshold, Groups], output: Tensor) -> None:
        ctx.groups = inputs[2]
        keep(ctx, output, inputs[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        output, (lambd,) = kept(ctx)
        grad_x, along = _group_gradients(grad, output, lambd, ctx.groups)
        grad_lambd = ctx.groups.sum_to(-along, lambd) if ctx.needs_input_grad[1] else None
        return grad_x.to(output.dtype), grad_lambd, None


class _SparseGroupSoftshrink(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, lambd: Threshold, group_lambd: Threshold, groups: Groups) -> Tensor:
        wide = widen(x)
        soft = soft_part(wide, level_like(lambd, wide))
        return _shrink_groups(soft, group_lambd, groups).to(x.dtype)

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, Threshold, Threshold, Groups], output: Tensor
    ) -> None:
        ctx.groups = inputs[3]
        keep(ctx, output, *inputs[1:3])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        output, (lambd, group_lambd) = kept(ctx)
        grad_soft, along = _group_gradients(grad, output, group_lambd, ctx.groups)
        grad_x = where_nonzero(grad_soft, widen(output))
        grad_lambd = grad_group = None
        if ctx.needs_input_grad[1]:
            grad_lambd = sum_to(-grad_x * output.sign(), lambd)
        if ctx.needs_input_grad[2]:
            grad_group = ctx.groups.sum_to(-along, group_lambd)
        return grad_x.to(output.dtype), grad_lambd, grad_group, None


def _shrink_groups(wide: Tensor, lambd: Threshold, groups: Groups) -> Tensor:
    split = groups.split(wide)
    level, norm = groups.level(lambd, split), groups.norm(split)
    scale = torch.where(norm == torch.inf, 1.0, (norm - level) / norm)
    return groups.join(split * torch.where(norm <= level, 0.0, scale))


def _group_gradients(
    grad: Tensor, output: Tensor, lambd: Threshold, groups: Groups
) -> tuple[Tensor, Tensor]:
    """J·g, and ``x_g·g/‖x_g‖`` per group, from the output: its norm is ``‖x_g‖ − λ``."""
    split, grad = groups.split(widen(output)), groups.split(widen(grad))
    level, norm = groups.level(lambd, split), groups.norm(split)
    live = norm != 0
    usable = live & (norm < torch.inf)
    direction = torch.where(usable, split, 0.0) / torch.where(usable, norm, 1.0)
    along = (direction * grad).sum(groups.dims, keepdim=True)
    pull = level / torch.where(live, norm + level, torch.inf)
    inside = split.isnan() | live  # isnan first: it has the strides of x
    grad_split = torch.where(inside, grad - pull * (grad - direction * along), 0.0)
    return groups.join(grad_split), along


def _where_mask(x: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return x
    check_mask(mask, x)
    return torch.where(mask, x, 0.0)


def _restrict(x: Tensor, shrunk: Tensor, mask: Tensor | None, zero_other: bool) -> Tensor:
    if mask is None:
        return shrunk
    return torch.where(mask, shrunk, torch.zeros_like(x) if zero_other else x)
