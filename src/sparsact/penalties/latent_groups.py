"""LatentGroupLasso: what stays is a union of groups."""

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparsact.penalties.base_penalty import fixed
from sparsact.penalties.dual_prox import DualProx, Norms
from sparsact.penalties.sharded_parameters import gather
from sparsact.penalties.shared_groups import Overlap, SharedGroups
from sparsact.thresholds.complex_modulus import moduli

_CHECK_EVERY = 20  # steps between two looks at the gap of the value
_RELAXATION = 1.6


@dataclass(frozen=True)
class LatentGroupLasso(SharedGroups):
    """``coef·min Σ_g w_g·√p_g·‖v_g‖₂`` over vectors v_g, each zero outside its group, with sum x.

    An entry stays if one of its groups does: the support is a union of groups. With
    :class:`OverlappingGroupLasso` the zeros are one. Groups without a common entry make both a
    :class:`GroupLasso`. Neither value nor prox has a closed form: both are found by iteration up to
    `tol`. The zeros of the prox are exact.

    Args:
        coef: coefficient ≥ 0, or a schedule of it.
        groups: lists of indices along `dim`, one per group, such as ``[[0, 1, 2], [2, 3]]``.
            Entries in no group are not penalised.
        dim: the dim of the indices; the other dims are samples.
        scale: ``"sqrt"`` multiplies the norm of a group by the square root of its size;
            ``"none"`` does not.
        weights: w_g ≥ 0, one number per group; by default 1.
        tol: the relative duality gap at which the value and the prox stop.
        steps: the most steps of each.

    Gradient:
        exact up to `tol`; 0 at 0. Second derivatives of the value, forward mode, ``vmap`` and
        ``torch.compile(fullgraph=True)`` raise. In the prox, the steps are recorded.

    Raises:
        InputError: as for :class:`OverlappingGroupLasso`.
        NotImplementedError: the value is differentiated twice.

    Warns:
        UserWarning: all steps were used before `tol` was reached.

    Example:
        >>> penalty = LatentGroupLasso(1.0, [[0, 1], [1, 2]], scale="none")
        >>> penalty(torch.tensor([3.0, 4.0, 0.0]))
        tensor(5.)
        >>> penalty.prox(torch.tensor([5.0, 0.1, 0.2]), step=1.0).round(decimals=2)
        tensor([4.0000, 0.0800, 0.0000])

    Source:
        Jacob, Obozinski & Vert, "Group lasso with overlap and graph lasso" (2009), eq. 5; Villa,
        Rosasco, Mosci & Verri, "Proximal methods for the latent group lasso penalty" (2014).
    """

    def __call__(self, x: Tensor) -> Tensor:
        """The penalty on `x`: a scalar."""
        sizes = moduli(gather(x)).abs()
        lines = self._lines(sizes.double())
        overlap = Overlap(lines, self.groups)
        slopes = self._slopes(lines.detach(), overlap)
        total: Tensor = _Linear.apply(lines, slopes)  # type: ignore[no-untyped-call]
        return fixed(self.coef) * total.to(torch.promote_types(sizes.dtype, torch.float32))

    def _shrink(self, lines: Tensor, overlap: Overlap, radius: Tensor) -> Tensor:
        """The sum of the vectors v_g of ``argmin ½‖x − Σ v_g‖² + Σ r_g·‖v_g‖``."""
        free = _free(overlap, radius)
        solver = LatentProx(overlap, radius, self.tol, self.steps, "LatentGroupLasso")
        covered = torch.where(free, 0.0, lines)
        return torch.where(free, lines, solver.sums(covered))

    @torch.no_grad()
    def _slopes(self, lines: Tensor, overlap: Overlap) -> Tensor:
        """The u with ``‖u_g‖ ≤ w_g·√p_g`` that maximises ``⟨u, x⟩``, for rows x ≥ 0.

        ADMM on the vectors v_g, whose sum is x, in units in which x and the levels are near 1. Rows
        with NaN or infinity have a u of 1.
        """
        if lines.numel() == 0:
            return torch.zeros_like(lines)
        levels = self._levels(lines)
        free = _free(overlap, levels)
        finite = lines.isfinite().all(1, keepdim=True)
        target = torch.where(finite & ~free, lines, 0.0)
        slopes = torch.zeros_like(target)
        rows = target.any(1)
        if bool(rows.any()):
            slopes[rows] = self._dual_points(target[rows], overlap, levels)
        return torch.where(finite, slopes, torch.where(free, 0.0, 1.0))

    def _dual_points(self, lines: Tensor, overlap: Overlap, levels: Tensor) -> Tensor:
        unit = lines.square().sum(1, keepdim=True).sqrt() / overlap.count**0.5
        x, radius = lines / unit, levels / levels.mean()
        copies = overlap.adjoint(torch.ones_like(overlap.apply(x))).clamp(min=1)
        parts = overlap.apply(x / copies)
        slopes, gap = torch.zeros_like(x), torch.inf
        for step in range(self.steps + 1):
            back = overlap.apply(slopes)
            shrunk = _shrink_groups(parts + back, overlap, radius)
            relaxed = _RELAXATION * shrunk + (1 - _RELAXATION) * parts
            missing = (x - overlap.adjoint(relaxed)) / copies
            parts = relaxed + overlap.apply(missing)
            slopes = slopes + missing
            if step % _CHECK_EVERY == 0:
                scale = _scale_inside(slopes, overlap, radius)[:, 0]
                primal = (radius * overlap.norms(parts)).sum(1)
                gap = float((1 - scale * (x * slopes).sum(1) / primal).max())
                if gap <= self.tol:
                    break
        if gap > self.tol:
            warnings.warn(
                f"the value of LatentGroupLasso reached a relative gap of {gap:.2g} after "
                f"{self.steps} steps, above tol={self.tol:.2g}: raise steps=",
                stacklevel=5,
            )
        scale = _scale_inside(slopes, overlap, radius) * levels.mean()
        return slopes * scale


class LatentProx(DualProx):
    """FISTA on the vectors v_g, one copy of an entry for each group that has it."""

    def sums(self, x: Tensor) -> Tensor:
        """``Σ v_g`` for each row of `x`; the steps are recorded for autograd."""
        return self.norms.adjoint(self._descend(x))

    def _project(self, dual: Tensor) -> Tensor:
        return _shrink_groups(dual, self.norms, self.radius / self.norms.bound)

    @torch.no_grad()
    def _gap(self, x: Tensor, dual: Tensor) -> float:
        rest = x - self.norms.adjoint(dual)
        point = rest * _scale_inside(rest, self.norms, self.radius)
        primal = rest.square().sum(1) / 2 + (self.radius * self.norms.norms(dual)).sum(1)
        gap = primal - (x * point).sum(1) + point.square().sum(1) / 2
        energy = x.square().sum(1) / 2
        relative = gap / energy.clamp(min=torch.finfo(energy.dtype).tiny)
        return float(relative.nan_to_num(0.0, 0.0, 0.0).max()) if len(x) else 0.0


class _Linear(torch.autograd.Function):
    """``Σ u·x``, whose gradient to x is u."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slopes: Tensor) -> Tensor:
        ctx.save_for_backward(x, slopes)
        return torch.where(slopes == 0, 0.0, x * slopes).sum()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        slopes: Tensor = _Slopes.apply(*ctx.saved_tensors)  # type: ignore[no-untyped-call]
        return grad * slopes, None


class _Slopes(torch.autograd.Function):
    """u, which depends on x in a way that is not computed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slopes: Tensor) -> Tensor:
        return slopes.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> None:
        raise NotImplementedError("LatentGroupLasso has no second derivative")


def _shrink_groups(copies: Tensor, norms: Norms, radius: Tensor) -> Tensor:
    """Each group times ``max(1 − r_g/‖v_g‖, 0)``."""
    sizes = norms.norms(copies).clamp(min=torch.finfo(copies.dtype).tiny)
    return copies * norms.spread((1 - radius / sizes).clamp(min=0))


def _scale_inside(u: Tensor, norms: Norms, radius: Tensor) -> Tensor:
    """The largest factor of each row, up to 1, that makes ``‖u_g‖ ≤ r_g`` where r_g is not 0."""
    sizes = norms.norms(norms.apply(u)).clamp(min=torch.finfo(u.dtype).tiny)
    ratio = torch.where(radius > 0, radius / sizes, 1.0)
    return ratio.amin(1, keepdim=True).clamp(max=1)


def _free(overlap: Overlap, radius: Tensor) -> Tensor:
    """Which entries are not penalised: in no group, or in one whose level is 0; (entries,)."""
    levels = radius.detach()[None]
    covered = overlap.adjoint(overlap.spread(torch.ones_like(levels))) > 0
    unpenalised = overlap.adjoint(overlap.spread((levels == 0).to(levels))) > 0
    return (~covered | unpenalised)[0]
