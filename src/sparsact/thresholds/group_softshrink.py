"""Soft shrinkage of groups: function, autograd function and module."""

from typing import Any

import torch
from torch import Tensor

from sparsact.thresholds.arguments import check_input, narrow, restrict, widen
from sparsact.thresholds.backward import keep, kept
from sparsact.thresholds.complex_modulus import is_complex
from sparsact.thresholds.forward_mode import DifferentiableFunction
from sparsact.thresholds.groups import Dims, Groups, zero_outside
from sparsact.thresholds.index_groups import IndexLists, check_index_lists, make_groups
from sparsact.thresholds.threshold_module import BandModule
from sparsact.thresholds.tracing import leaf, one_node


@one_node
def group_softshrink(
    x: Tensor,
    lambd: float | Tensor = 0.5,
    dim: Dims = -1,
    group_size: int | None = None,
    *,
    groups: IndexLists | None = None,
    mask: Tensor | None = None,
    zero_other: bool = False,
) -> Tensor:
    """Group soft shrinkage: ``max(1 − λ/‖x_g‖₂, 0)·x_g``, the proximal operator of ``λΣ‖x_g‖₂``.

    Args:
        x: any shape, floating point or complex. Complex entries add their modulus to a norm.
        lambd: λ ≥ 0, a float or a tensor that broadcasts to the shape of the group norms. That is
            the shape of `x` with the number of groups along `dim` in place of the size of `dim`.
        dim: the dim, or dims, along which entries form groups.
        group_size: None makes all of `dim` one group; a number cuts one `dim` into contiguous
            groups of that size.
        groups: lists of indices along `dim` (the last one of several dims), one per group, such
            as ``[[0, 1, 2], [3, 4]]``. Groups may not overlap. Entries in no group are
            treated as entries outside `mask`.
        mask: boolean, broadcasts to `x`; entries where it is False belong to no group.
        zero_other: entries outside `mask` become 0 instead of passing unchanged.

    Returns:
        a tensor of the shape and dtype of `x`. The norm is computed in float32 at least, and
        neither overflows nor underflows. ``‖x_g‖ = λ`` gives 0. A NaN makes its group NaN.

    Gradient:
        exact. For ``n = ‖x_g‖ > λ``: ``J = (1 − λ/n)·I + λ·x_g·x_gᵀ/n³`` and ``∂λ = −x_g/n``;
        both are 0 for ``n ≤ λ``. Only the output is kept for backward.

    Raises:
        TypeError: `x` is neither floating point nor complex.
        ValueError: a float λ is negative or not finite, or a tensor does not broadcast;
            `group_size` does not
            divide the size of `dim`, or comes with several dims.

    Example:
        >>> x = torch.tensor([3.0, 4.0, 0.3, 0.4])
        >>> group_softshrink(x, 1.0, group_size=2)
        tensor([2.4000, 3.2000, 0.0000, 0.0000])

    Source:
        Yuan & Lin, "Model selection and estimation in regression with grouped variables", JRSS
        B 68 (2006), eq. 2.4, without its factor √p.
    """
    if not is_complex(x):
        check_input(x, "group_softshrink")
    grouping = make_groups(x, dim, group_size, groups)
    lambd = grouping.broadcast(lambd, "lambd")
    if x.numel() == 0:
        return x.clone()
    mask = grouping.members(x, mask)
    inside = zero_outside(x, mask)
    if x.is_complex():
        shrunk = grouping.shrink_complex(inside, lambd)
    else:
        shrunk = _GroupSoftshrink.run(inside, lambd, grouping)
    return restrict(x, shrunk, "both", mask, zero_other)


class GroupSoftshrink(BandModule):
    """Group soft shrinkage as a module; see :func:`sparsact.functional.group_softshrink`.

    Args:
        lambd: the (initial) λ ≥ 0, compared with the norms of the groups. It and the arguments
            not listed here are those of :class:`BandModule`. The gradient of a learned λ is
            exact.
        num_parameters: number of λ: 1, or the size of `channel_dim` in the shape of the norms.
        channel_dim: the dim of the norms along which λ differs, if there are several.
        dim: the dim, or dims, along which entries form groups.
        group_size: the size of the groups, as in the function.
        groups: lists of indices along `dim`, as in the function.
        zero_other: entries outside the mask become 0 instead of passing unchanged.

    ``init_from`` sets the share of *groups* that become zero.

    Shape:
        any, returned unchanged.

    Example:
        >>> import torch
        >>> GroupSoftshrink(1.0, group_size=2)(torch.tensor([3.0, 4.0, 0.3, 0.4]))
        tensor([2.4000, 3.2000, 0.0000, 0.0000])
        >>> GroupSoftshrink(0.1, learnable=True, num_parameters=64, dim=(2, 3))  # one per map
        GroupSoftshrink(lambd=0.1, learnable=True, num_parameters=64, channel_dim=1, dim=(2, 3))
    """

    def __init__(
        self,
        lambd: float | Tensor = 0.5,
        learnable: bool = False,
        num_parameters: int | None = 1,
        channel_dim: int = 1,
        *,
        dim: Dims = -1,
        group_size: int | None = None,
        groups: IndexLists | None = None,
        zero_other: bool = False,
    ) -> None:
        super().__init__(lambd, learnable, num_parameters, channel_dim, zero_other=zero_other)
        self.dim = dim
        self.group_size = group_size
        self.groups = None if groups is None else check_index_lists(groups, group_size)

    @leaf
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply the function to `x`; only entries where `mask` is True belong to groups."""
        return group_softshrink(x, self.threshold(x), **self._options(), mask=mask)

    def _options(self) -> dict[str, Any]:
        return {**self._grouping(), "zero_other": self.zero_other}

    def _grouping(self) -> dict[str, Any]:
        return {"dim": self.dim, "group_size": self.group_size, "groups": self.groups}

    def _level_shape(self, x: Tensor) -> tuple[int, ...]:
        return make_groups(x, **self._grouping()).norm_shape

    def _score(self, sample: Tensor) -> tuple[Tensor, None]:
        groups = make_groups(sample, **self._grouping())
        return groups.per_group(groups.norm(groups.split(widen(sample)))), None

    def extra_repr(self) -> str:
        """λ, and the groups."""
        size = "" if self.group_size is None else f", group_size={self.group_size}"
        lists = "" if self.groups is None else f", {len(self.groups)} groups of indices"
        return super().extra_repr() + f", dim={self.dim}" + size + lists


class _GroupSoftshrink(DifferentiableFunction):
    @staticmethod
    def forward(x: Tensor, lambd: float | Tensor, groups: Groups) -> Tensor:
        return narrow(shrink_groups(widen(x), lambd, groups), x)

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, float | Tensor, Groups], output: Tensor
    ) -> None:
        ctx.groups = inputs[2]
        keep(ctx, output, inputs[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        output, (lambd,) = kept(ctx)
        grad_x, along = group_gradients(grad, output, lambd, ctx.groups)
        grad_lambd = ctx.groups.sum_to(-along, lambd) if ctx.needs_input_grad[1] else None
        return grad_x.to(output.dtype), grad_lambd, None

    @classmethod
    def tangent(cls, ctx: Any, x: Tensor, *levels: Any) -> Tensor:
        """``J·v``, with the symmetric J, and the direction of each group times the tangent of λ."""
        output, (lambd,) = kept(ctx)
        grad_x, _ = group_gradients(x, output, lambd, ctx.groups)
        return (grad_x - along_groups(output, levels[0], ctx.groups)).to(output.dtype)


def shrink_groups(wide: Tensor, lambd: float | Tensor, groups: Groups) -> Tensor:
    """Soft shrinkage of the groups of a widened tensor."""
    split = groups.split(wide)
    wide_lambd, norm = groups.widen_lambd(lambd, split), groups.norm(split)
    scale = torch.where(norm == torch.inf, 1.0, (norm - wide_lambd) / norm)
    return groups.join(split * torch.where(norm <= wide_lambd, 0.0, scale))


def group_gradients(
    grad: Tensor, output: Tensor, lambd: float | Tensor, groups: Groups
) -> tuple[Tensor, Tensor]:
    """J·g, and ``x_g·g/‖x_g‖`` per group.

    Both are computed from the output, whose groups have the norm ``‖x_g‖ − λ``.
    """
    split, grad = groups.split(widen(output)), groups.split(widen(grad))
    wide_lambd, norm = groups.widen_lambd(lambd, split), groups.norm(split)
    live = norm != 0
    direction = _direction(split, norm)
    along = groups.sum(direction * grad)
    pull = wide_lambd / torch.where(live, norm + wide_lambd, torch.inf)
    inside = split.isnan() | live  # isnan first: it has the strides of x
    grad_split = torch.where(inside, grad - pull * (grad - direction * along), 0.0)
    return groups.join(grad_split), along


def along_groups(output: Tensor, tangent: Tensor | None, groups: Groups) -> Tensor | float:
    """``x_g/‖x_g‖`` times the tangent of λ, which is None if λ is a number."""
    if tangent is None:
        return 0.0
    split = groups.split(widen(output))
    return groups.join(_direction(split, groups.norm(split)) * groups.widen_lambd(tangent, split))


def _direction(split: Tensor, norm: Tensor) -> Tensor:
    """``x_g/‖x_g‖``, 0 for a norm of 0 or infinity."""
    usable = (norm != 0) & (norm < torch.inf)
    return torch.where(usable, split, 0.0) / torch.where(usable, norm, 1.0)
