"""OverlappingGroupLasso: an entry is zero as soon as one of its groups is."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsact.penalties.base_penalty import fixed
from sparsact.penalties.dual_prox import DualProx
from sparsact.penalties.sharded_parameters import gather
from sparsact.penalties.shared_groups import Overlap, SharedGroups
from sparsact.thresholds.arguments import widen
from sparsact.thresholds.complex_modulus import moduli


@dataclass(frozen=True)
class OverlappingGroupLasso(SharedGroups):
    """``coef·Σ_g w_g·√p_g·‖x_g‖₂`` over groups that may share entries.

    An entry is zero as soon as one of its groups is: what stays is the complement of a union of
    groups. Groups that contain one another give trees. The prox has no closed form; it is found by
    FISTA on the dual up to `tol`, and its zeros are exact. With :class:`LatentGroupLasso` the
    entries that stay are a union of groups.

    Args:
        coef: coefficient ≥ 0, or a schedule of it.
        groups: lists of indices along `dim`, one per group, such as ``[[0, 1, 2], [2, 3]]``.
            Entries in no group are not penalised.
        dim: the dim of the indices; the other dims are samples.
        scale: ``"sqrt"`` multiplies the norm of a group by the square root of its size;
            ``"none"`` does not.
        weights: w_g ≥ 0, one number per group; by default 1.
        tol: the relative duality gap at which the prox stops.
        steps: the most steps of the prox.

    Gradient:
        exact; 0 at a zero group. In the prox, the steps are recorded.

    Raises:
        InputError: no group, an empty one, a negative index or one that occurs twice in a group,
            weights of another length or below 0. At a call: an index does not exist. At a prox: a
            step size per entry or a sharded weight.

    Warns:
        UserWarning: a prox used all its steps before it reached `tol`.

    Example:
        >>> penalty = OverlappingGroupLasso(1.0, [[0, 1], [1, 2]], scale="none")
        >>> penalty(torch.tensor([3.0, 4.0, 0.0]))
        tensor(9.)
        >>> penalty.prox(torch.tensor([5.0, 0.1, 0.2]), step=1.0).round(decimals=3)
        tensor([4., 0., 0.])

    Source:
        Jenatton, Audibert & Bach, "Structured variable selection with sparsity-inducing norms"
        (2011).
    """

    def __call__(self, x: Tensor) -> Tensor:
        """The penalty on `x`: a scalar."""
        lines = self._lines(widen(moduli(gather(x))))
        overlap = Overlap(lines, self.groups)
        return fixed(self.coef) * (self._levels(lines) * overlap.norms(overlap.apply(lines))).sum()

    def _shrink(self, lines: Tensor, overlap: Overlap, radius: Tensor) -> Tensor:
        """``x − Σ_g ξ_g`` with dual vectors ξ_g of norm at most ``step·coef·w_g·√p_g``."""
        solver = DualProx(overlap, radius, self.tol, self.steps, "OverlappingGroupLasso")
        shrunk, zero = solver.solve(lines)
        dead = overlap.adjoint(overlap.spread(zero.to(lines))) > 0
        return torch.where(dead & lines.isfinite(), 0.0, shrunk)
