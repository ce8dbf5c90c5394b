"""TotalVariation: the sum of jumps between neighbours, which gives constant pieces."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.penalties.base_penalty import Coefficient, Penalty, check_coefficient, fixed
from sparsact.penalties.dual_prox import DualProx
from sparsact.penalties.sharded_parameters import gather
from sparsact.penalties.sorted_l1 import check_joint_prox
from sparsact.penalties.taut_string import piecewise_constant
from sparsact.thresholds.arguments import widen
from sparsact.thresholds.complex_modulus import is_complex


@dataclass(frozen=True)
class TotalVariation(Penalty):
    """``coef·Σ|x_{i+1} − x_i|`` along a dim, or ``coef·Σ√(Δ₁x² + Δ₂x²)`` over two dims.

    The prox makes neighbours exactly equal along one dim. Over two dims it is found by FISTA on
    the dual, up to `tol`.

    Args:
        coef: coefficient ≥ 0, or a schedule of it.
        dim: the dim of the neighbours, or two dims.
        isotropic: over two dims, whether a jump is the length of the gradient; False takes
            ``|Δ₁x| + |Δ₂x|``.
        tol: over two dims, the relative duality gap at which the prox stops.
        steps: over two dims, the most steps of the prox.

    Gradient:
        exact, 0 where neighbours are equal. That of the prox is exact along one dim; over two dims
        the steps are recorded.

    Raises:
        InputError: a dim does not exist, both dims are the same, or the input is complex. At a
            prox: a step size per entry or a sharded weight.

    Warns:
        UserWarning: a prox over two dims used all its steps before it reached `tol`.

    Example:
        >>> TotalVariation(0.5)(torch.tensor([1.0, 1.0, 4.0]))
        tensor(1.5000)
        >>> TotalVariation(0.5).prox(torch.tensor([1.0, 1.2, 4.0, 3.8]), step=1.0)
        tensor([1.3500, 1.3500, 3.6500, 3.6500])

    Source:
        Rudin, Osher & Fatemi, "Nonlinear total variation based noise removal algorithms" (1992).
    """

    zero_is_free: ClassVar[bool] = False
    prox_is_entrywise: ClassVar[bool] = False
    is_magnitude_sum: ClassVar[bool] = False

    coef: Coefficient
    dim: int | tuple[int, int] = -1
    isotropic: bool = True
    tol: float = 1e-6
    steps: int = 1000

    def __post_init__(self) -> None:
        check_coefficient(self.coef, "coef")
        if isinstance(self.dim, tuple) and len(self.dim) != 2:
            raise InputError(f"dim= must be one dim or two, got {self.dim}")
        check_accuracy(self.tol, self.steps)

    def __call__(self, x: Tensor) -> Tensor:
        """The penalty on `x`: a scalar."""
        x = gather(x)
        dims = self._dims(x)
        if len(dims) == 1:
            return fixed(self.coef) * widen(x).diff(dim=dims[0]).abs().sum()
        planes = _planes(widen(x), dims)
        jumps = _Jumps(self.isotropic)
        return fixed(self.coef) * jumps.norms(jumps.apply(planes)).sum()

    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """The constant pieces nearest to `x`, by the sum of squares plus ``step·coef·Σ jumps``."""
        check_joint_prox(self, x, step)
        dims, wide = self._dims(x), widen(x)
        if x.numel() == 0:
            return x.clone()
        lambd = step * fixed(self.coef)
        if len(dims) == 1:
            lines = wide.movedim(dims[0], -1)
            fitted = piecewise_constant(lines.reshape(-1, lines.shape[-1]), lambd)
            return fitted.reshape(lines.shape).movedim(-1, dims[0]).to(x.dtype)
        planes = _planes(wide.double(), dims)
        radius = torch.as_tensor(lambd, dtype=planes.dtype, device=planes.device)
        solver = DualProx(_Jumps(self.isotropic), radius, self.tol, self.steps, "TotalVariation")
        smooth, _ = solver.solve(planes)
        back = smooth.reshape(wide.movedim(dims, (-2, -1)).shape)
        return back.movedim((-2, -1), dims).to(x.dtype)

    def _dims(self, x: Tensor) -> tuple[int, ...]:
        if is_complex(x):
            raise InputError("TotalVariation is not implemented for complex input")
        dims = self.dim if isinstance(self.dim, tuple) else (self.dim,)
        if any(not -x.ndim <= dim < x.ndim for dim in dims):
            raise InputError(f"dim={self.dim} does not exist in an input of shape {tuple(x.shape)}")
        if len({dim % x.ndim for dim in dims}) < len(dims):
            raise InputError(f"dim={self.dim} is the same dim twice")
        return dims


class _Jumps:
    """The forward differences of planes (rows, height, width) as (rows, 2, height, width)."""

    bound = 8.0

    def __init__(self, isotropic: bool) -> None:
        self.isotropic = isotropic

    def apply(self, u: Tensor) -> Tensor:
        down = torch.nn.functional.pad(u.diff(dim=1), (0, 0, 0, 1))
        across = torch.nn.functional.pad(u.diff(dim=2), (0, 1))
        return torch.stack([down, across], 1)

    def adjoint(self, dual: Tensor) -> Tensor:
        down, across = dual[:, 0, :-1], dual[:, 1, :, :-1]
        pad = torch.nn.functional.pad
        rows = pad(down, (0, 0, 1, 0)) - pad(down, (0, 0, 0, 1))
        return rows + pad(across, (1, 0)) - pad(across, (0, 1))

    def norms(self, dual: Tensor) -> Tensor:
        if not self.isotropic:
            return dual.abs()
        sizes: Tensor = torch.linalg.vector_norm(dual, dim=1, keepdim=True)
        return sizes

    def spread(self, values: Tensor) -> Tensor:
        return values


def check_accuracy(tol: float, steps: int) -> None:
    """Raise unless `tol` and `steps` are valid for :class:`DualProx`."""
    if not tol >= 0 or steps < 1:
        raise InputError(f"tol= must be at least 0 and steps= at least 1, got {tol} and {steps}")


def _planes(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """(rows, height, width)."""
    moved = x.movedim(dims, (-2, -1))
    return moved.reshape(-1, *moved.shape[-2:])
