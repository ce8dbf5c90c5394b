"""Sparse codes of signals in a dictionary."""

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.coding.admm import Admm
from sparsact.coding.arguments import (
    Gradient,
    Method,
    as_dictionary,
    check_groups,
    check_options,
    check_signals,
    needs_gradient,
    starting_codes,
    weights_for,
)
from sparsact.coding.coordinate_descent import coordinate_descent, lasso_levels
from sparsact.coding.implicit import attach_gradient
from sparsact.coding.operators import MatrixDictionary
from sparsact.coding.problem import Problem
from sparsact.coding.proximal_gradient import Fista, ista
from sparsact.coding.sparse_dictionary import SparseDictionary
from sparsact.penalties import Penalty

_CHECK_EVERY = 10  # steps between two looks at the gap, each about half a step long
_IDLE_CHECKS = 30  # looks in which rounding alone moves the distance
_ROUNDING = 100  # distances that rounding may cause, in units of epsilon


class NotConvergedWarning(UserWarning):
    """A solver used all its steps before it reached the tolerance."""


class ZeroCodeWarning(UserWarning):
    """All codes of a call are zero: the coefficient of the penalty leaves nothing."""


@dataclass(frozen=True)
class SparseCode:
    """Codes, and how near to the optimum they are.

    Attributes:
        codes: (…, atoms), or what the operator's adjoint gives.
        distance: for each signal, (…,), the duality gap over ½‖x‖²; where the gap is not known,
            the relative change by one more proximal gradient step.
        steps: steps that the slowest signal took.
        tol: the tolerance that was set.
        method: the method that ran.
    """

    codes: Tensor
    distance: Tensor
    steps: int
    tol: float
    method: Method

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
        x: signals (…, dim) for a matrix, (batch, …) for an operator; float32 or float64, real or
            complex. A complex code is shrunk by modulus.
        dictionary: a matrix of atoms (atoms, dim), so that ``D(z) = z @ dictionary``, dense or
            sparse (of torch or SciPy), or a module with a method ``adjoint``, such as
            :class:`ConvDictionary`; of the dtype of `x`.
        penalty: any penalty with a prox. Weights of entries broadcast to the codes: one per atom,
            (atoms,), or one per code, (…, atoms).
        method: ``"fista"``, with momentum and restart; ``"ista"``; ``"cd"``, coordinate descent
            with Newton steps on the support, for L1 and ElasticNet on a matrix, the fastest on a
            CPU (few signals and many atoms are solved by working sets), which goes on in float64
            where rounding in float32 keeps it from `tol`; ``"admm"``, which
            needs far fewer steps than ``"fista"`` where the atoms are strongly correlated or the
            penalty joins many codes, as TotalVariation does (in float32 its gap ends near 1e-5; it
            need not settle for a penalty that is not convex; a step costs that of ``"fista"`` for
            a dense matrix, and up to 100 conjugate gradients for another operator); ``"auto"``,
            which takes ``"cd"`` where it applies and else ``"fista"``.
        steps: the most steps that are taken; for ``"cd"`` sweeps over the atoms.
        tol: a signal is done when its duality gap is at most ``tol·½‖x‖²``. Where the gap is not
            known (penalties other than L1, ElasticNet and GroupLasso; weights of which one is 0;
            groups with weights or by index lists) it is done when a step moves the code by at
            most `tol` of its size.
        positive: codes must not be negative; for real signals and all penalties that depend on
            magnitudes alone.
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
        NotConvergedWarning: the steps ended before the tolerance was reached, or rounding kept the
            distance above it.
        ZeroCodeWarning: all codes are zero, because the coefficient is too large.

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
        ended = solution.steps < steps
        remedy = f"rounding in {x.dtype} ends it there: raise tol=" if ended else "raise steps="
        warnings.warn(
            f"sparse_code reached {float(solution.distance.max()):.2g} after {solution.steps} "
            f"steps, above tol={tol:.2g}: {remedy}",
            NotConvergedWarning,
            stacklevel=2,
        )
    if not bool(solution.codes.any()) and bool(x.any()):
        warnings.warn(
            f"all codes are zero: the coefficient of {type(penalty).__name__} is at or above the "
            "least one that leaves nothing, λ_max; lower it",
            ZeroCodeWarning,
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
    check_options(x, penalty, method, steps, tol, gradient, positive)
    dictionary = as_dictionary(dictionary)
    signals, operator = check_signals(x, dictionary)
    codes = starting_codes(signals, operator, start, x)
    check_groups(penalty, codes)
    penalty = weights_for(penalty, x, codes)
    problem = Problem.of(signals, operator, penalty, positive)
    method = _chosen(method, problem, gradient)
    if gradient == "unrolled":
        codes = (
            ista(problem, codes, steps) if method == "ista" else Fista(problem, codes).run(steps)
        )
        with torch.no_grad():
            distance = problem.distance(codes)
        return _solution(x, codes, distance, steps, tol, method)
    with torch.no_grad():
        if method == "cd":
            codes, distance, taken = coordinate_descent(problem, codes, steps, tol)
        else:
            codes, distance, taken = _solve(problem, codes, method, steps, tol)
    if needs_gradient(signals, dictionary, penalty):
        if not penalty.prox_is_entrywise or x.is_complex():
            kind = "complex codes" if x.is_complex() else type(penalty).__name__
            raise InputError(
                f"the implicit gradient of {kind} is not implemented: take gradient='unrolled'"
            )
        codes = attach_gradient(problem, codes)
    return _solution(x, codes, distance, taken, tol, method)


def _chosen(method: Method, problem: Problem, gradient: Gradient) -> Method:
    """The method that runs for ``"auto"``; raises where coordinate descent does not apply."""
    is_matrix = isinstance(problem.operator, (MatrixDictionary, SparseDictionary))
    is_lasso = lasso_levels(problem.penalty) is not None and not problem.signals.is_complex()
    applies = is_matrix and is_lasso and gradient == "implicit"
    if method == "cd" and not applies:
        raise InputError(
            "method='cd' needs a real matrix as dictionary=, an L1 or ElasticNet with an L1 part "
            "above 0 as penalty= (weights= one positive number per atom, of L1 only), and "
            "gradient='implicit': take method='fista'"
        )
    if method == "admm" and gradient == "unrolled":
        raise InputError("method='admm' needs gradient='implicit': take method='fista'")
    if method == "auto":
        return "cd" if applies and problem.signals.device.type == "cpu" else "fista"
    return method


def _solve(
    problem: Problem, codes: Tensor, method: Method, steps: int, tol: float
) -> tuple[Tensor, Tensor, int]:
    """Codes, their distances and the steps taken; signals that are done are left out."""
    if problem.lipschitz == 0:  # a dictionary of zeros: the codes are zero
        codes = torch.zeros_like(codes)
        return codes, codes.real.new_zeros(len(codes)), 0
    solver = Admm(problem, codes) if method == "admm" else Fista(problem, codes)
    codes, distance = codes.clone(), codes.real.new_full((len(codes),), torch.inf)
    running = torch.arange(len(codes), device=codes.device)
    rounding = _ROUNDING * torch.finfo(distance.dtype).eps
    least, taken, idle = distance.clone(), 0, 0
    while True:
        reached = solver.problem.distance(solver.codes)
        distance[running], codes[running] = reached, solver.codes
        unfinished = reached > tol
        moves = (reached < 0.9 * least[running]) | (reached > rounding)
        idle = 0 if bool((moves & unfinished).any()) else idle + 1
        least[running] = torch.minimum(least[running], reached)
        if taken >= steps or idle == _IDLE_CHECKS or not bool(unfinished.any()):
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


def _solution(
    x: Tensor, codes: Tensor, distance: Tensor, steps: int, tol: float, method: Method
) -> SparseCode:
    if codes.ndim == 2:  # of a matrix: the leading dims of the signals come back
        shape = x.shape[:-1]
        codes, distance = codes.reshape(*shape, codes.shape[1]), distance.reshape(shape)
    return SparseCode(codes, distance, steps, tol, method)
