"""Learning the atoms of a dictionary from signals."""

import warnings
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from sparsact._common.errors import InputError, unknown
from sparsact.coding.arguments import check_signals
from sparsact.coding.checks import check_count, check_tensor
from sparsact.coding.sparse_code import (
    NotConvergedWarning,
    SparseCode,
    ZeroCodeWarning,
    solve_sparse_code,
)
from sparsact.penalties import L1, Penalty

LearningMethod = Literal["alternating", "online"]

_CODE_TOLERANCE = 1e-5  # relative duality gap of the codes during the fit
_DEAD = 1e-6  # an atom is dead if its squared codes sum to less than this share of the largest sum


@dataclass(frozen=True)
class LearnedDictionary:
    """A dictionary, the codes of the signals in it, and how the fit went.

    Attributes:
        atoms: (atoms, dim), each of norm 1.
        codes: (…, atoms), of the final atoms.
        history: the mean objective ``½‖x − zD‖² + penalty(z)`` of a signal in each epoch, with the
            atoms that the signal was coded with, (epochs,).
        revived: how often a dead atom was replaced.
    """

    atoms: Tensor
    codes: Tensor
    history: Tensor
    revived: int


@torch.no_grad()
def fit_dictionary(
    data: Tensor,
    atoms: int,
    penalty: Penalty | None = None,
    *,
    method: LearningMethod = "alternating",
    epochs: int = 20,
    batch_size: int = 256,
    tol: float = 1e-4,
    positive: bool = False,
    start: Tensor | None = None,
    seed: int = 0,
) -> LearnedDictionary:
    """Find atoms of norm 1 whose sparse codes describe signals: ``min Σ ½‖x − zD‖² + penalty(z)``.

    Codes and atoms are optimised in turn. The problem is not convex: the result is a stationary
    point, which depends on `start`. An atom that no code uses is replaced by the signal that is
    described worst.

    Args:
        data: signals (…, dim), float32 or float64. Subtract their mean if it does not matter.
        atoms: the number of atoms.
        penalty: of the codes, any penalty with a prox; ``L1(1.0)`` by default. Signals of about
            norm 1 need less.
        method: ``"alternating"`` codes all signals, then improves the atoms; ``"online"``
            improves them after each batch, from sums over the latest codes of all signals, and
            needs fewer epochs where signals are many.
        epochs: the most passes over the signals.
        batch_size: signals of a batch, for ``"online"``.
        tol: ends the fit when an epoch lowers the mean objective by less than this share.
        positive: codes must not be negative.
        start: atoms to start from, (atoms, dim); random signals by default.
        seed: of the random choices.

    Gradient:
        none; the result is constant.

    Raises:
        InputError: as :func:`sparse_code`; a number of atoms, epochs or signals below 1; a `start`
            of another shape.

    Warns:
        NotConvergedWarning: the final codes are further from their optimum than 1e-5 of ½‖x‖².
        ZeroCodeWarning: all codes are zero, so nothing was learned.

    Example:
        >>> import sparsact as sa
        >>> signals = torch.eye(3).repeat(4, 1)
        >>> learned = fit_dictionary(signals, 3, sa.L1(0.1))
        >>> learned.atoms.abs().sum(0)
        tensor([1., 1., 1.])

    Source:
        Mairal, Bach, Ponce & Sapiro, "Online dictionary learning for sparse coding" (2009). Atoms
        are on the sphere instead of in the ball, and the earlier code of a signal is taken out of
        the sums, as section 3.4 there suggests.
    """
    penalty = L1(1.0) if penalty is None else penalty
    if method not in get_args(LearningMethod):
        raise unknown("method=", method, get_args(LearningMethod))
    check_tensor(data, "data")
    if data.numel() == 0 or data.ndim == 0 or data.is_complex():
        raise InputError(
            "data= must not be empty, and hold real signals (…, dim): got shape "
            f"{tuple(data.shape)} in {data.dtype}"
        )
    for count, name in ((atoms, "atoms"), (epochs, "epochs"), (batch_size, "batch_size")):
        check_count(count, name)
    generator = torch.Generator().manual_seed(seed)
    signals = data.reshape(-1, data.shape[-1])
    dictionary = _first_atoms(signals, atoms, start, generator)
    check_signals(signals, dictionary)
    fit = _Fit(signals, dictionary, penalty, positive, generator)
    history: list[float] = []
    for _ in range(epochs):
        history.append(fit.online(batch_size) if method == "online" else fit.alternate())
        if len(history) > 1 and history[-2] - history[-1] <= tol * abs(history[-2]):
            break
    final = fit.solve(signals, fit.codes)
    if not final.converged:
        warnings.warn(
            f"the codes of the learned dictionary reached {float(final.distance.max()):.2g}, above "
            f"{_CODE_TOLERANCE:.2g}: code the signals again by sparse_code with more steps",
            NotConvergedWarning,
            stacklevel=2,
        )
    if not bool(final.codes.any()) and bool(data.any()):
        warnings.warn(
            f"all codes are zero: the coefficient of {type(penalty).__name__} is too large for "
            "these data, and nothing was learned; lower it",
            ZeroCodeWarning,
            stacklevel=2,
        )
    return LearnedDictionary(
        fit.dictionary,
        final.codes.reshape(*data.shape[:-1], atoms),
        torch.tensor(history, dtype=data.dtype),
        fit.revived,
    )


def _first_atoms(
    signals: Tensor, atoms: int, start: Tensor | None, generator: torch.Generator
) -> Tensor:
    if start is not None:
        if tuple(start.shape) != (atoms, signals.shape[1]):
            raise InputError(
                f"start= must have shape {(atoms, signals.shape[1])}, got {tuple(start.shape)}"
            )
        return _normalised(start.to(signals).clone(), generator)
    order = torch.randperm(len(signals), generator=generator)[:atoms].to(signals.device)
    missing = signals.new_zeros(atoms - len(order), signals.shape[1])
    return _normalised(torch.cat([signals[order], missing]), generator)


def _normalised(rows: Tensor, generator: torch.Generator) -> Tensor:
    """Rows of norm 1; a row of zeros becomes a random one."""
    zero = ~rows.any(1)
    noise = torch.randn(int(zero.sum()), rows.shape[1], generator=generator, dtype=torch.float64)
    rows[zero] = noise.to(rows)
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / norms


class _Fit:
    """The state of a fit: atoms, the sums of the codes, and the codes of the last pass."""

    def __init__(
        self,
        signals: Tensor,
        dictionary: Tensor,
        penalty: Penalty,
        positive: bool,
        generator: torch.Generator,
    ) -> None:
        self.signals, self.dictionary = signals, dictionary
        self.penalty, self.positive, self.generator = penalty, positive, generator
        self.codes = signals.new_zeros(len(signals), len(dictionary))
        self.gram = dictionary.new_zeros(len(dictionary), len(dictionary))  # Σ zᵀz
        self.cross = torch.zeros_like(dictionary)  # Σ zᵀx
        self.revived = 0

    def solve(self, signals: Tensor, start: Tensor) -> SparseCode:
        """The codes of signals in the present atoms."""
        return solve_sparse_code(
            signals,
            self.dictionary,
            self.penalty,
            method="auto",
            tol=_CODE_TOLERANCE,
            positive=self.positive,
            start=start,
        )

    def alternate(self) -> float:
        """Code all signals, then improve the atoms; the mean objective."""
        self.codes = self.solve(self.signals, self.codes).codes
        residual = self.signals - self.codes @ self.dictionary
        objective = self._objective(residual, self.codes)
        self.gram, self.cross = self.codes.t() @ self.codes, self.codes.t() @ self.signals
        self._improve(self.signals, residual)
        return objective / len(self.signals)

    def online(self, batch_size: int) -> float:
        """Improve the atoms after each batch of a random order; the mean objective."""
        order = torch.randperm(len(self.signals), generator=self.generator)
        total = 0.0
        for index in order.to(self.signals.device).split(batch_size):
            batch = self.signals[index]
            before = self.codes[index]
            codes = self.codes[index] = self.solve(batch, before).codes
            residual = batch - codes @ self.dictionary
            total += self._objective(residual, codes)
            self.gram += codes.t() @ codes - before.t() @ before
            self.cross += (codes - before).t() @ batch
            self._improve(batch, residual)
        return total / len(self.signals)

    def _objective(self, residual: Tensor, codes: Tensor) -> float:
        return float(residual.square().sum() / 2 + self.penalty(codes))

    def _improve(self, signals: Tensor, residual: Tensor) -> None:
        """Minimise over one atom after the other, and replace those that no code uses."""
        usage = self.gram.diagonal()
        dead = usage <= _DEAD * usage.max()
        for j in (~dead).nonzero().flatten().tolist():
            atom = self.cross[j] - self.gram[j] @ self.dictionary
            atom += self.gram[j, j] * self.dictionary[j]
            norm = torch.linalg.vector_norm(atom)
            if norm > 0:
                self.dictionary[j] = atom / norm
        self._revive(dead.nonzero().flatten(), signals, residual)

    def _revive(self, dead: Tensor, signals: Tensor, residual: Tensor) -> None:
        """Replace dead atoms by the signals whose residuals are largest."""
        worst = residual.square().sum(1).argsort(descending=True)[: len(dead)]
        dead = dead[: len(worst)]
        if not len(dead):
            return
        self.dictionary[dead] = _normalised(signals[worst], self.generator)
        self.gram[dead], self.gram[:, dead], self.cross[dead] = 0, 0, 0
        self.codes[:, dead] = 0
        self.revived += len(dead)
