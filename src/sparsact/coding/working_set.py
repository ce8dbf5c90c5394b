"""One large lasso: few atoms at a time, and the rest only to see which of them are missing.

A pass over all atoms gives the duality gap, and the atoms that violate the optimality condition
most. These join a pool, whose small Gram matrix the kernel of coordinate descent solves. Atoms that
the gap proves to be zero are left out of later passes.

Source:
    Massias, Gramfort & Salmon, "Celer: a fast solver for the lasso with dual extrapolation" (2018),
    for the working sets. Newton steps on the support take the place of the extrapolation. Ndiaye et
    al., "Gap safe screening rules for sparsity enforcing penalties" (2017), for the screening.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

# the import registers the operation
from sparsact.kernels import lasso as lasso

_LEAST_NEW = 32  # atoms that join the pool at once
_MOST_PASSES = 200


class Atoms(Protocol):
    """A dictionary that can be taken apart: `MatrixDictionary` and `SparseDictionary`."""

    def __call__(self, codes: Tensor) -> Tensor:
        """The signals (batch, dim) of codes (batch, atoms)."""

    def adjoint(self, signals: Tensor) -> Tensor:
        """The inner products of the atoms and signals, (batch, atoms)."""

    def combine(self, code: Tensor) -> Tensor:
        """The signal (dim,) of one code (atoms,)."""

    def select(self, index: Tensor) -> Any:
        """The dictionary of some of the atoms."""

    def join(self, other: Any) -> Any:
        """The dictionary of these atoms and, behind them, those of another one."""

    def products(self, other: Any) -> Tensor:
        """The inner products of these atoms and others, (atoms, others)."""

    def norms(self) -> Tensor:
        """The norm of each atom, (atoms,)."""


class Pool:
    """The atoms of a working set, and their Gram matrix.

    Args:
        dictionary: all atoms.
        index: which of them are in the pool, (size,).
    """

    def __init__(self, dictionary: Atoms, index: Tensor) -> None:
        self.dictionary, self.index = dictionary, index
        self.atoms: Any = dictionary.select(index)
        self.gram = self.atoms.products(self.atoms)

    def add(self, new: Tensor) -> None:
        """Put more atoms behind those of the pool."""
        size = len(self.index)
        self.index = torch.cat([self.index, new])
        selected = self.dictionary.select(new)
        self.atoms = self.atoms.join(selected)
        beside = self.atoms.products(selected)
        gram = beside.new_empty(len(self.index), len(self.index))
        gram[:size, :size], gram[:, size:] = self.gram, beside
        gram[size:, :size] = beside[:size].t()
        self.gram = gram


@dataclass(frozen=True)
class LargeLasso:
    """``min_z ½‖x − Dz‖² + l1·‖z‖₁ + ½·l2·‖z‖²`` for one signal x."""

    signal: Tensor
    dictionary: Atoms
    l1: float
    l2: float
    positive: bool

    def solve(self, start: Tensor, rounds: int, tol: float) -> tuple[Tensor, Tensor, int]:
        """The code (atoms,), its relative duality gap and the rounds of the small problems."""
        energy = self.signal.square().sum()
        correlation = self.dictionary.adjoint(self.signal[None])[0]
        norms = self.dictionary.norms()
        alive = torch.ones_like(norms, dtype=torch.bool)
        pool = Pool(self.dictionary, start.nonzero().squeeze(1))
        code, taken = start[pool.index], 0
        for _ in range(_MOST_PASSES):
            ascent, gap, scale = self._pass(pool, code, correlation, energy)
            if float(gap) <= tol or taken >= rounds:
                break
            alive &= self._may_be_used(ascent, gap * energy / 2, scale, norms)
            new = self._missing(ascent, norms, alive, pool, int((code != 0).sum()))
            pool.add(new)
            code = torch.cat([code, code.new_zeros(len(new))])
            inner = max(0.1 * tol, 0.01 * float(gap))
            code, used = self._solve_pool(pool, code, correlation, energy, rounds - taken, inner)
            size = ascent[new] if self.positive else ascent[new].abs()
            if used == 0 and not bool((size > self.l1).any()):
                break  # rounding keeps the gap above the tolerance
            taken += used
        full = torch.zeros_like(start)
        full[pool.index] = code
        return full, gap, taken

    def _pass(
        self, pool: Pool, code: Tensor, correlation: Tensor, energy: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Minus the gradient at all atoms, the relative gap, and the scale of the dual point."""
        if len(code):
            residual = self.signal - pool.atoms.combine(code)
            ascent = self.dictionary.adjoint(residual[None])[0]
        else:
            residual, ascent = self.signal, correlation.clone()
        if self.l2:
            ascent[pool.index] -= self.l2 * code
        size = ascent if self.positive else ascent.abs()
        tiny = torch.finfo(code.dtype).tiny
        scale = (self.l1 / size.amax().clamp(min=tiny)).clamp(max=1)
        square = residual.square().sum() + self.l2 * code.square().sum()
        linear = self.l1 * code.abs().sum() - scale * (code @ ascent[pool.index])
        gap = (1 - scale).square() / 2 * square + linear
        return ascent, gap.relu() / (energy / 2).clamp(min=tiny), scale

    def _may_be_used(self, ascent: Tensor, gap: Tensor, scale: Tensor, norms: Tensor) -> Tensor:
        """Which atoms the gap does not prove to be zero.

        The dual optimum is within √(2·gap) of the scaled residual.
        """
        size = scale * (ascent if self.positive else ascent.abs())
        return size + (2 * gap).sqrt() * (norms.square() + self.l2).sqrt() >= self.l1

    def _missing(
        self, ascent: Tensor, norms: Tensor, alive: Tensor, pool: Pool, support: int
    ) -> Tensor:
        """The atoms outside the pool that are nearest to the edge of the dual's feasible set."""
        size = ascent if self.positive else ascent.abs()
        distance = (self.l1 - size) / (norms.square() + self.l2).sqrt().clamp(
            min=torch.finfo(size.dtype).tiny
        )
        distance[~alive] = torch.inf
        distance[pool.index] = torch.inf
        count = min(max(_LEAST_NEW, support), len(distance))
        nearest = distance.topk(count, largest=False)
        return nearest.indices[nearest.values < torch.inf]

    def _solve_pool(
        self,
        pool: Pool,
        code: Tensor,
        correlation: Tensor,
        energy: Tensor,
        rounds: int,
        tol: float,
    ) -> tuple[Tensor, int]:
        codes, _, taken = torch.ops.sparsact.lasso_gram(
            correlation[pool.index][None],
            pool.gram,
            energy[None],
            code.new_full((len(code),), self.l1),
            code[None],
            self.l2,
            self.positive,
            rounds,
            tol,
        )
        return codes[0], int(taken)
