"""Sparse codes of signals in a dictionary."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError, unknown
from sparsact.coding.implicit import attach_gradient
from sparsact.coding.operators import MatrixDictionary, Operator, check_adjoint
from sparsact.coding.problem import Problem
from sparsact.coding.proximal_gradient import Fista, ista
from sparsact.penalties import GroupLasso, Penalty, SparseGroupLasso
from sparsact.penalties.base_penalty import has_prox
from sparsact.penalties.group_lasso import split_groups

Method = Literal["fista", "ista"]
Gradient = Literal["implicit", "unrolled"]

_CHECK_EVERY = 10  # steps between two looks at the gap, each about half a step long


class NotConvergedWarning(UserWarning):
    """A solver used all its steps before it reached the tolerance."""


@dataclass(frozen=True)
class SparseCode:
    """Codes, and how near to the optimum they are.

    Attributes:
        codes: (…, atoms), or what the operator's adjoint gives.
        distance: for each signal, (…,), the duality gap over ½‖x‖²; where the gap is not known,
            the relative change by one more proximal gradient step.
        steps: steps that the slowest signal took.
        tol: the tolerance that was set.
    """

    codes: Tensor
    distance: Tensor
    steps: int
    tol: float

    @property
    def converged(self) -> bool:
        """Whether every signal reached the tolerance."""
        return bool((self.distance <= self.tol).all())


def sparse_code(
    x: Tensor,
    dictionary: Tensor | nn.Module,
    penalty: Penalty,
    *,
    method: Method = "fista",
    steps: int = 1000,
    tol: float = 1e-6,
    positive: bool = False,
    start: Tensor | None = None,
    gradient: Gradient = "implicit",
) -> Tensor:
    """The codes ``argmin_z ½‖x − D(z)‖² + penalty(z)``, one for each signal.

    Args:
        x: signals (…, dim) for a matrix, (batch, …) for an operator; float32 or float64.
        dictionary: a matrix of atoms (atoms, dim), so that ``D(z) = z @ dictionary``, or a module
            with a method ``adjoint``, such as :class:`ConvDictionary`.
        penalty: any penalty with a prox.
        method: ``"fista"``, with momentum and restart, or ``"ista"``.
        steps: the most steps that are taken.
        tol: a signal is done when its duality gap is at most ``tol·½‖x‖²``. Where the gap is not
            known (penalties other than L1, ElasticNet and GroupLasso, or with weights or index
            lists) it is done when a step moves the code by at most `tol` of its size.
        positive: codes must not be negative.
        start: codes to start from; zeros by default.
        gradient: how codes are differentiated where `x`, the dictionary or a tensor coefficient of
            the penalty requires it. ``"implicit"`` solves the linear system of the optimality
            condition and needs no memory for the steps; ``"unrolled"`` differentiates the
            steps themselves: all `steps` are then taken, whatever the tolerance.

    Returns:
        codes (…, atoms), or in the shape of ``dictionary.adjoint(x)``. For a penalty that is not
        convex they are a stationary point, which depends on `start`.

    Gradient:
        exact where the solution is unique and no code lies on the edge of a dead band.

    Raises:
        InputError: shapes that do not fit, no atoms, NaN, a penalty without a prox, groups across
            signals, an adjoint that is not the operator's adjoint.

    Warns:
        NotConvergedWarning: the steps ended before the tolerance was reached.

    Example:
        >>> import sparsact as sa
        >>> dictionary = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
        >>> sparse_code(torch.tensor([[1.2, 1.6]]), dictionary, sa.L1(0.5))
        tensor([[0.0000, 0.0000, 1.5000]])

    Source:
        Beck & Teboulle, "A fast iterative shrinkage-thresholding algorithm" (2009).
    """
    solution = solve_sparse_code(
        x,
        dictionary,
        penalty,
        method=method,
        steps=steps,
        tol=tol,
        positive=positive,
        start=start,
        gradient=gradient,
    )
    if gradient == "implicit" and not solution.converged:
        warnings.warn(
            f"sparse_code reached {float(solution.distance.max()):.2g} after {solution.steps} "
            f"steps, above tol={tol:.2g}: raise steps=",
            NotConvergedWarning,
            stacklevel=2,
        )
    return solution.codes


def solve_sparse_code(
    x: Tensor,
    dictionary: Tensor | nn.Module,
    penalty: Penalty,
    *,
    method: Method = "fista",
    steps: int = 1000,
    tol: float = 1e-6,
    positive: bool = False,
    start: Tensor | None = None,
    gradient: Gradient = "implicit",
) -> SparseCode:
    """:func:`sparse_code` with what was reached; it does not warn.

    Example:
        >>> import sparsact as sa
        >>> solve_sparse_code(torch.eye(2), torch.eye(2), sa.L1(0.1)).converged
        True
    """
    _check_options(penalty, method, steps, tol, gradient)
    signals, operator = _check_signals(x, dictionary)
    codes = _start(signals, operator, start, x)
    _check_groups(penalty, codes)
    problem = Problem.of(signals, operator, penalty, positive, codes)
    if gradient == "unrolled":
        codes = (
            ista(problem, codes, steps) if method == "ista" else Fista(problem, codes).run(steps)
        )
        with torch.no_grad():
            distance = problem.distance(codes)
        return _solution(x, codes, distance, steps, tol)
    with torch.no_grad():
        codes, distance, taken = _solve(problem, codes, method, steps, tol)
    if _needs_gradient(signals, dictionary, penalty):
        if isinstance(penalty, (GroupLasso, SparseGroupLasso)):
            raise InputError(
                f"the implicit gradient of {type(penalty).__name__} is not implemented: take "
                "gradient='unrolled'"
            )
        codes = attach_gradient(problem, codes)
    return _solution(x, codes, distance, taken, tol)


def _solve(
    problem: Problem, codes: Tensor, method: Method, steps: int, tol: float
) -> tuple[Tensor, Tensor, int]:
    """Codes, their distances and the steps taken; signals that are done are left out."""
    if problem.lipschitz == 0:  # a dictionary of zeros: the codes are zero
        codes = torch.zeros_like(codes)
        return codes, codes.new_zeros(len(codes)), 0
    solver = Fista(problem, codes)
    codes, distance = codes.clone(), codes.new_full((len(codes),), torch.inf)
    running = torch.arange(len(codes), device=codes.device)
    taken = 0
    while True:
        distance[running] = solver.problem.distance(solver.codes)
        codes[running] = solver.codes
        unfinished = distance[running] > tol
        if taken >= steps or not bool(unfinished.any()):
            return codes, distance, taken
        if not bool(unfinished.all()):
            running = running[unfinished]
            solver.keep(unfinished)
        few = min(_CHECK_EVERY, steps - taken)
        if method == "ista":
            solver.codes = ista(solver.problem, solver.codes, few)
        else:
            solver.run(few)
        taken += few


def _solution(x: Tensor, codes: Tensor, distance: Tensor, steps: int, tol: float) -> SparseCode:
    if codes.ndim == 2:  # of a matrix: the leading dims of the signals come back
        shape = x.shape[:-1]
        codes, distance = codes.reshape(*shape, codes.shape[1]), distance.reshape(shape)
    return SparseCode(codes, distance, steps, tol)


def _check_options(penalty: Penalty, method: str, steps: int, tol: float, gradient: str) -> None:
    if not has_prox(penalty):
        raise InputError(
            f"{type(penalty).__name__} has no proximal operator: sparse_code needs a penalty that "
            "has one, such as L1"
        )
    if method not in get_args(Method):
        raise unknown("method=", method, get_args(Method))
    if gradient not in get_args(Gradient):
        raise unknown("gradient=", gradient, get_args(Gradient))
    if steps < 1 or tol < 0:
        raise InputError(f"steps= must be at least 1 and tol= at least 0, got {steps} and {tol}")


def _check_signals(x: Tensor, dictionary: Tensor | nn.Module) -> tuple[Tensor, Operator]:
    """The signals as a batch, and the dictionary as an operator."""
    if x.dtype not in (torch.float32, torch.float64):
        raise InputError(f"x= must be float32 or float64, got {x.dtype}")
    if not bool(x.isfinite().all()):
        raise InputError("x= holds NaN or infinite values")
    if not isinstance(dictionary, Tensor):
        if not callable(getattr(dictionary, "adjoint", None)):
            raise InputError(
                f"dictionary= must be a matrix or a module with a method adjoint, got "
                f"{type(dictionary).__name__}"
            )
        operator: Operator = dictionary  # type: ignore[assignment]
        check_adjoint(operator, x)
        return x, operator
    if dictionary.ndim != 2 or not len(dictionary):
        raise InputError(
            f"dictionary= must be (atoms, dim) with at least one atom, got shape "
            f"{tuple(dictionary.shape)}"
        )
    if x.ndim < 1 or x.shape[-1] != dictionary.shape[1]:
        raise InputError(
            f"x= of shape {tuple(x.shape)} does not fit atoms of dim {dictionary.shape[1]}: its "
            "last dim must be that"
        )
    if dictionary.dtype != x.dtype:
        raise InputError(f"x= is {x.dtype} and dictionary= is {dictionary.dtype}: convert one")
    if not bool(dictionary.isfinite().all()):
        raise InputError("dictionary= holds NaN or infinite values")
    return x.reshape(-1, x.shape[-1]), MatrixDictionary(dictionary)


def _start(signals: Tensor, operator: Operator, start: Tensor | None, x: Tensor) -> Tensor:
    with torch.no_grad():
        codes = torch.zeros_like(operator.adjoint(signals))
    if start is None:
        return codes
    expected = (*x.shape[:-1], codes.shape[1]) if codes.ndim == 2 else tuple(codes.shape)
    if tuple(start.shape) != expected:
        raise InputError(f"start= must have shape {expected}, got {tuple(start.shape)}")
    return start.to(codes).reshape(codes.shape).detach()


def _check_groups(penalty: Penalty, codes: Tensor) -> None:
    if isinstance(penalty, (GroupLasso, SparseGroupLasso)):
        split, dims = split_groups(codes, penalty.dim, penalty.group_size)
        if any(dim % split.ndim == 0 for dim in dims):
            raise InputError("a group of the penalty must lie within the code of one signal")


def _needs_gradient(x: Tensor, dictionary: Tensor | nn.Module, penalty: Penalty) -> bool:
    coefficient: float | Tensor | Callable[[int], float] = penalty.coefficient
    tensors = [x, *([dictionary] if isinstance(dictionary, Tensor) else dictionary.parameters())]
    tensors += [coefficient] if isinstance(coefficient, Tensor) else []
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
