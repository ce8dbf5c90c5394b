"""The problem that sparse coding solves, on a batch of signals."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sparsact.coding.duality import Gap, duality_gap, real_rows, rows
from sparsact.coding.operators import Operator, largest_eigenvalue
from sparsact.penalties import Penalty

Prox = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True)
class Problem:
    """``min_z ½‖x − D(z)‖² + penalty(z)`` for each signal x of a batch.

    Attributes:
        signals: x, (batch, …).
        operator: D and its adjoint.
        penalty: has a prox.
        positive: whether codes must not be negative.
        gap: the duality gap, or None where it is not known.
    """

    signals: Tensor
    operator: Operator
    penalty: Penalty
    positive: bool
    gap: Gap | None

    @classmethod
    def of(cls, signals: Tensor, operator: Operator, penalty: Penalty, positive: bool) -> "Problem":
        """The problem with its duality gap."""
        return cls(signals, operator, penalty, positive, duality_gap(penalty, positive))

    @cached_property
    def lipschitz(self) -> float:
        """An upper bound of the largest eigenvalue of DᵀD; computed when a method needs it."""
        with torch.no_grad():
            codes = self.operator.adjoint(self.signals[:1])
        return largest_eigenvalue(self.operator, codes)

    def only(self, chosen: Tensor, dims: int) -> "Problem":
        """The problem of some of the signals, whose codes have `dims` dims."""
        part = replace(self, signals=self.signals[chosen], **self._own_weights(chosen, dims))
        part.__dict__["lipschitz"] = self.lipschitz
        return part

    def _own_weights(self, chosen: Tensor, dims: int) -> dict[str, Any]:
        """The penalty and the gap of some signals, if each signal has weights of its own."""
        weights: Any = getattr(self.penalty, "weights", None)
        if not isinstance(weights, Tensor) or weights.ndim < dims or len(weights) == 1:
            return {}
        dataclass_instance: Any = self.penalty
        penalty = replace(dataclass_instance, weights=weights[chosen])
        return {"penalty": penalty, "gap": duality_gap(penalty, self.positive)}

    def prox(self, codes: Tensor, step: float) -> Tensor:
        """The prox of the penalty, over codes that are not negative if `positive`.

        For a penalty that depends on magnitudes and grows with them, the prox of the positive part
        is that of the penalty with the constraint.
        """
        return self.penalty.prox(codes.relu() if self.positive else codes, step)

    def ascent(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """The residuals ``x − D(z)`` and ``D.adjoint`` of them: minus the gradient."""
        residual = self.signals - self.operator(codes)
        return residual, self.operator.adjoint(residual)

    def relative_gap(self, codes: Tensor) -> Tensor:
        """The duality gap of each signal over ``½‖x‖²``, (batch,)."""
        assert self.gap is not None
        residual, correlation = self.ascent(codes)
        energy = real_rows(self.signals).square().sum(1) / 2
        gap = self.gap(self.signals, residual, correlation, codes)
        return gap.clamp(min=0) / energy.clamp(min=torch.finfo(energy.dtype).tiny)

    def relative_change(self, codes: Tensor) -> Tensor:
        """How far one proximal gradient step moves each code, over its size, (batch,)."""
        _, correlation = self.ascent(codes)
        step = 1 / self.lipschitz
        move = rows(self.prox(codes + step * correlation, step) - codes)
        moved: Tensor = torch.linalg.vector_norm(move, dim=1)
        size: Tensor = torch.linalg.vector_norm(rows(codes), dim=1)
        return moved / size.clamp(min=torch.finfo(size.dtype).tiny)

    def distance(self, codes: Tensor) -> Tensor:
        """What is compared with the tolerance: the relative gap, or the relative change."""
        return self.relative_change(codes) if self.gap is None else self.relative_gap(codes)
