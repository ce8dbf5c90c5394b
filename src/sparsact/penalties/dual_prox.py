"""Proximal operators of sums of norms of ``K·u``, by FISTA on the dual."""

import math
import warnings
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

_CHECK_EVERY = 10  # steps between two looks at the gap


class Norms(Protocol):
    """A linear map K from rows to groups of entries.

    Attributes:
        bound: at least the largest eigenvalue of KᵀK.
    """

    bound: float

    def apply(self, u: Tensor) -> Tensor:
        """K·u for each row."""

    def adjoint(self, dual: Tensor) -> Tensor:
        """Kᵀ·dual for each row."""

    def norms(self, dual: Tensor) -> Tensor:
        """The norm of each group, of a shape (rows, …)."""

    def spread(self, values: Tensor) -> Tensor:
        """One value per group, of the shape of :meth:`norms`, for each entry of the dual."""


@dataclass(frozen=True)
class DualProx:
    """``argmin_u ½‖u − x‖² + Σ_g r_g·‖(K·u)_g‖`` for each row x.

    The solution is ``x − Kᵀξ``, where the dual ξ minimises ``‖x − Kᵀξ‖²`` with ``‖ξ_g‖ ≤ r_g``.

    Attributes:
        norms: K and its groups.
        radius: r ≥ 0, of a shape that broadcasts to the norms.
        tol: a row is done when its duality gap is at most ``tol·½‖x‖²``.
        steps: the most steps.
        name: what a warning calls the penalty.

    Source:
        Beck & Teboulle, "Fast gradient-based algorithms for constrained total variation image
        denoising and deblurring problems" (2009), with restarts as in O'Donoghue & Candès (2015).
    """

    norms: Norms
    radius: Tensor
    tol: float
    steps: int
    name: str

    def solve(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The solution, and which groups it makes zero, of the shape of the norms.

        Args:
            x: (rows, …), float64. The steps are recorded for autograd.
        """
        dual = self._descend(x)
        u = x - self.norms.adjoint(dual)
        raised = dual + self.norms.apply(u) / self.norms.bound
        return u, self.norms.norms(raised) <= self.radius

    def _descend(self, x: Tensor) -> Tensor:
        """The dual that minimises ``½‖x − Kᵀξ‖²`` plus what :meth:`_project` is the prox of."""
        dual = ahead = torch.zeros_like(self.norms.apply(x))
        momentum, gap = 1.0, torch.inf
        for step in range(self.steps + 1):
            if step % _CHECK_EVERY == 0:
                gap = self._gap(x, dual)
                if not gap > self.tol:
                    break
            raised = self.norms.apply(x - self.norms.adjoint(ahead)) / self.norms.bound
            new = self._project(ahead + raised)
            if bool(((ahead - new) * (new - dual)).detach().sum() > 0):
                momentum = 1.0
            longer = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
            ahead = new + (momentum - 1) / longer * (new - dual)
            dual, momentum = new, longer
        if gap > self.tol:
            warnings.warn(
                f"the prox of {self.name} reached a relative gap of {gap:.2g} after {self.steps} "
                f"steps, above tol={self.tol:.2g}: raise steps=",
                stacklevel=5,
            )
        return dual

    def _project(self, dual: Tensor) -> Tensor:
        sizes = self.norms.norms(dual)
        tiny = torch.finfo(dual.dtype).tiny
        return dual * self.norms.spread((self.radius / sizes.clamp(min=tiny)).clamp(max=1))

    @torch.no_grad()
    def _gap(self, x: Tensor, dual: Tensor) -> float:
        """The largest relative duality gap of a row; NaN rows count as done."""
        rows = len(x)
        image = self.norms.apply(x - self.norms.adjoint(dual))
        primal = (self.radius * self.norms.norms(image)).reshape(rows, -1).sum(1)
        gap = primal - (dual * image).reshape(rows, -1).sum(1)
        energy = x.reshape(rows, -1).square().sum(1) / 2
        relative = gap / energy.clamp(min=torch.finfo(energy.dtype).tiny)
        return float(relative.nan_to_num(0.0, 0.0, 0.0).max()) if rows else 0.0
