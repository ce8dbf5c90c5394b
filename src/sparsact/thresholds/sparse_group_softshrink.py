"""Soft shrinkage of entries and of groups: function, autograd function and module."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.thresholds.arguments import (
    broadcast_threshold,
    check_input,
    check_threshold,
    magnitude,
    narrow,
    restrict,
    widen,
    widen_like,
)
from sparsact.thresholds.backward import keep, kept, sum_to, where_nonzero
from sparsact.thresholds.complex_modulus import by_modulus, is_complex
from sparsact.thresholds.forward_mode import DifferentiableFunction
from sparsact.thresholds.group_softshrink import along_groups, group_gradients, shrink_groups
from sparsact.thresholds.groups import Dims, Groups, zero_outside
from sparsact.thresholds.index_groups import IndexLists, check_index_lists, make_groups
from sparsact.thresholds.softshrink import soft_part, softshrink
from sparsact.thresholds.threshold_module import BandModule, mean_text
from sparsact.thresholds.tracing import leaf, one_node


@one_node
def sparse_group_softshrink(
    x: Tensor,
    lambd: float | Tensor = 0.5,
    group_lambd: float | Tensor = 0.5,
    dim: Dims = -1,
    group_size: int | None = None,
    *,
    groups: IndexLists | None = None,
    mask: Tensor | None = None,
    zero_other: bool = False,
) -> Tensor:
    """Sparse-group shrinkage: soft shrinkage of the entries by λ₁, then of the groups by λ₂.

    The proximal operator of ``λ₁‖x‖₁ + λ₂Σ‖x_g‖₂``.

    Args:
        x: any shape, floating point or complex. Complex entries are shrunk by modulus.
        lambd: λ₁ ≥ 0, a float or a tensor that broadcasts to the shape of `x`.
        group_lambd: λ₂ ≥ 0, a float or a tensor that broadcasts to the shape of the group norms,
            as in :func:`group_softshrink`.
        dim: the dim, or dims, along which entries form groups.
        group_size: the size of the groups, as in :func:`group_softshrink`.
        groups: lists of indices, as in :func:`group_softshrink`. Entries in no group are only
            shrunk by λ₁.
        mask: boolean, broadcasts to `x`; entries where it is False belong to no group.
        zero_other: entries outside `mask` become 0 instead of passing unchanged.

    Returns:
        a tensor of the shape and dtype of `x`. ``|x| = λ₁`` gives 0. A group whose norm is λ₂
        after the first step gives 0. A NaN makes its group NaN.

    Gradient:
        exact: that of :func:`group_softshrink` on the entries that are not zero, 0 on the others.
        Only the output is kept for backward.

    Raises:
        TypeError: `x` is neither floating point nor complex.
        ValueError: as for :func:`group_softshrink`.

    Example:
        >>> x = torch.tensor([4.0, 5.0, 0.5, 1.3, 0.5, 0.5])
        >>> sparse_group_softshrink(x, 1.0, 1.0, group_size=3)
        tensor([2.4000, 3.2000, 0.0000, 0.0000, 0.0000, 0.0000])

    Source:
        Simon et al., "A sparse-group lasso", JCGS 22 (2013), sec. 3; Friedman et al., "A note
        on the group lasso and a sparse group lasso" (2010).
    """
    if not is_complex(x):
        check_input(x, "sparse_group_softshrink")
    grouping = make_groups(x, dim, group_size, groups)
    lambd = broadcast_threshold(lambd, x)
    group_lambd = grouping.broadcast(group_lambd, "group_lambd")
    if x.numel() == 0:
        return x.clone()
    members = grouping.members(x, mask)
    inside = zero_outside(x, members)
    if x.is_complex():
        soft = by_modulus(inside, partial(softshrink, lambd=lambd))
        shrunk = grouping.shrink_complex(soft, group_lambd)
    else:
        shrunk = _SparseGroupSoftshrink.run(inside, lambd, group_lambd, grouping)
    if groups is not None:
        x = softshrink(x, lambd, mask=mask, zero_other=zero_other)
        return restrict(x, shrunk, "both", members, False)
    return restrict(x, shrunk, "both", mask, zero_other)


class SparseGroupSoftshrink(BandModule):
    """Sparse-group shrinkage; see :func:`sparsact.functional.sparse_group_softshrink`.

    Args:
        lambd: the (initial) λ₁ ≥ 0, compared with entries. It and the arguments not listed here
            are those of :class:`BandModule`.
        learnable: make λ₁ and λ₂ parameters; their gradients are exact.
        group_lambd: the (initial) λ₂ ≥ 0, compared with the norms of the groups; always a single
            one.
        dim: the dim, or dims, along which entries form groups.
        group_size: the size of the groups, as in the function.
        groups: lists of indices along `dim`, as in the function.
        zero_other: entries outside the mask become 0 instead of passing unchanged.

    ``init_from`` multiplies λ₁ and λ₂ by one factor, so that the share `sparsity` of the
    *entries* becomes zero.

    Shape:
        any, returned unchanged.

    Example:
        >>> import torch
        >>> layer = SparseGroupSoftshrink(1.0, group_lambd=1.0, group_size=3)
        >>> layer(torch.tensor([4.0, 5.0, 0.5, 1.3, 0.5, 0.5]))
        tensor([2.4000, 3.2000, 0.0000, 0.0000, 0.0000, 0.0000])
    """

    level_names = ("lambd", "group_lambd")
    group_lambd: float | Tensor

    def __init__(
        self,
        lambd: float | Tensor = 0.5,
        learnable: bool = False,
        num_parameters: int | None = 1,
        channel_dim: int = 1,
        *,
        group_lambd: float = 0.5,
        dim: Dims = -1,
        group_size: int | None = None,
        groups: IndexLists | None = None,
        zero_other: bool = False,
    ) -> None:
        super().__init__(lambd, learnable, num_parameters, channel_dim, zero_other=zero_other)
        check_threshold(group_lambd, "group_lambd")
        start = torch.full((1,), float(group_lambd))
        self.group_lambd = torch.nn.Parameter(start) if learnable else float(group_lambd)
        self.dim = dim
        self.group_size = group_size
        self.groups = None if groups is None else check_index_lists(groups, group_size)

    @leaf
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply the function to `x`; only entries where `mask` is True belong to groups."""
        return self._shrink(x, self.threshold(x), self._group_threshold(), mask)

    def _group_threshold(self) -> float | Tensor:
        lambd = self.group_lambd
        return magnitude(lambd).reshape(()) if isinstance(lambd, Tensor) else lambd

    def _shrink(
        self, x: Tensor, lambd: float | Tensor, group_lambd: float | Tensor, mask: Tensor | None
    ) -> Tensor:
        return sparse_group_softshrink(
            x,
            lambd,
            group_lambd,
            self.dim,
            self.group_size,
            groups=self.groups,
            mask=mask,
            zero_other=self.zero_other,
        )

    def _set_from(self, sample: Tensor, sparsity: float) -> None:
        """Find the factor by bisection: the share of zeros grows with it."""
        entry, group = self.threshold(sample), self._group_threshold()
        smallest = max(float(torch.as_tensor(entry).min()), float(group))
        if smallest == 0:
            raise InputError("init_from scales lambd and group_lambd by one factor, but both are 0")
        wide = widen(sample)
        low, high = 0.0, float(torch.linalg.vector_norm(wide.double())) / smallest
        for _ in range(60):
            middle = (low + high) / 2
            shrunk = self._shrink(wide, entry * middle, group * middle, None)
            if float((shrunk == 0).double().mean()) < sparsity:
                low = middle
            else:
                high = middle
        self._set("lambd", torch.as_tensor(self.lambd) * high)
        self._set("group_lambd", torch.as_tensor(self.group_lambd) * high)

    def extra_repr(self) -> str:
        """Both λ, and the groups."""
        size = "" if self.group_size is None else f", group_size={self.group_size}"
        group = f", group_lambd={mean_text(self.group_lambd)}, dim={self.dim}"
        lists = "" if self.groups is None else f", {len(self.groups)} groups of indices"
        return super().extra_repr() + group + size + lists


class _SparseGroupSoftshrink(DifferentiableFunction):
    @staticmethod
    def forward(
        x: Tensor, lambd: float | Tensor, group_lambd: float | Tensor, groups: Groups
    ) -> Tensor:
        wide = widen(x)
        soft = soft_part(wide, widen_like(lambd, wide))
        return narrow(shrink_groups(soft, group_lambd, groups), x)

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, float | Tensor, float | Tensor, Groups], output: Tensor
    ) -> None:
        ctx.groups = inputs[3]
        keep(ctx, output, *inputs[1:3])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        output, (lambd, group_lambd) = kept(ctx)
        grad_soft, along = group_gradients(grad, output, group_lambd, ctx.groups)
        grad_x = where_nonzero(grad_soft, widen(output))
        grad_lambd = grad_group = None
        if ctx.needs_input_grad[1]:
            grad_lambd = sum_to(-grad_x * output.sign(), lambd)
        if ctx.needs_input_grad[2]:
            grad_group = ctx.groups.sum_to(-along, group_lambd)
        return grad_x.to(output.dtype), grad_lambd, grad_group, None

    @classmethod
    def tangent(cls, ctx: Any, x: Tensor, *levels: Any) -> Tensor:
        """As for group shrinkage; the tangent of λ₁ moves the entries before the groups."""
        output, (_, group_lambd) = kept(ctx)
        moved = x if levels[0] is None else x - widen(output).sign() * levels[0]
        grad_soft, _ = group_gradients(moved, output, group_lambd, ctx.groups)
        grad_x = where_nonzero(grad_soft, widen(output))
        return (grad_x - along_groups(output, levels[1], ctx.groups)).to(output.dtype)
