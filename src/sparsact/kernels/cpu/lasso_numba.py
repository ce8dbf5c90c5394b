"""Lasso problems that share a Gram matrix, by coordinate descent and Newton steps.

Each signal keeps its code z and the correlations ``c = Dᵀx − Gz``. An update of one entry of z
subtracts a row of the Gram matrix from c; entries that stay zero cost one comparison. After a few
sweeps the support hardly changes. Then Newton steps solve for all entries of the support at once.
A step ends at the first entry that would change its sign; that entry leaves the support.
"""

import numpy as np
import torch
from numba import prange
from torch import Tensor

from sparsact.kernels.cpu.compiling import Array, driver, summing_part
from sparsact.kernels.cpu.tensor_memory import array
from sparsact.kernels.cpu.threads import run

_SWEEPS_BEFORE_NEWTON = 4
_MOST_CUTS = 32  # Newton steps of a round
_LARGEST_SUPPORT = 1024  # entries of a Newton step


def lasso_gram(
    correlation: Tensor,
    gram: Tensor,
    energy: Tensor,
    level: Tensor,
    start: Tensor,
    ridge: float,
    positive: bool,
    rounds: int,
    tol: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return codes, relative duality gaps and rounds of each signal."""
    codes = start.clone(memory_format=torch.contiguous_format)
    gap, taken = energy.new_empty(len(codes)), start.new_empty(len(codes)).long()
    inputs = [tensor.contiguous() for tensor in (correlation, gram, energy, level)]
    arrays = [array(tensor) for tensor in (*inputs, codes, gap, taken)]
    scalars = (array(level.new_tensor(ridge))[()], positive, rounds, tol)
    run(_solve, _solve_rows, len(codes), *arrays, *scalars)
    return codes, gap, taken


@summing_part
def _subtract(c: Array, factor: float, row: Array) -> None:
    for k in range(c.shape[0]):
        c[k] -= factor * row[k]


@summing_part
def _sweep(z: Array, c: Array, gram: Array, level: Array, ridge: float, positive: bool) -> None:
    """Minimise over one entry after the other; entries in the dead band are passed over."""
    for j in range(z.shape[0]):
        before, bound = z[j], level[j]
        if before == 0 and abs(c[j]) <= bound:
            continue
        curvature = gram[j, j]
        u = c[j] + curvature * before
        after = before - before  # zero of the right dtype
        if curvature + ridge > 0:
            if u > bound:
                after = (u - bound) / (curvature + ridge)
            elif u < -bound and not positive:
                after = (u + bound) / (curvature + ridge)
        if after != before:
            z[j] = after
            _subtract(c, after - before, gram[j])


@summing_part
def _factorise(
    z: Array, gram: Array, ridge: float, support: Array, factor: Array, least: float
) -> int:
    """The Cholesky factor of the Gram matrix of the support; dependent atoms are left out."""
    count = 0
    for j in range(z.shape[0]):
        if z[j] == 0 or count == factor.shape[0]:
            continue
        for i in range(count):
            entry = gram[j, support[i]]
            for k in range(i):
                entry -= factor[count, k] * factor[i, k]
            factor[count, i] = entry / factor[i, i]
        pivot = gram[j, j] + ridge
        for k in range(count):
            pivot -= factor[count, k] * factor[count, k]
        if pivot > least * (gram[j, j] + ridge):
            factor[count, count] = np.sqrt(pivot)
            support[count] = j
            count += 1
    return count


@summing_part
def _newton(
    z: Array,
    c: Array,
    gram: Array,
    level: Array,
    ridge: float,
    support: Array,
    factor: Array,
    step: Array,
    least: float,
) -> bool:
    """Minimise over the support up to the first change of a sign; whether there was none."""
    count = _factorise(z, gram, ridge, support, factor, least)
    for i in range(count):
        j = support[i]
        value = c[j] - (level[j] if z[j] > 0 else -level[j]) - ridge * z[j]
        for k in range(i):
            value -= factor[i, k] * step[k]
        step[i] = value / factor[i, i]
    for i in range(count - 1, -1, -1):
        step[i] /= factor[i, i]
        _subtract(step[:i], step[i], factor[i, :i])
    length, first = z[0] - z[0] + 1, -1
    for i in range(count):
        before = z[support[i]]
        if (before + length * step[i]) * before < 0:
            length, first = -before / step[i], i
    for i in range(count):
        j = support[i]
        before = z[j]
        after = before + length * step[i]
        if i == first or after * before < 0:
            after = before - before
        z[j] = after
        _subtract(c, after - before, gram[j])
    return first < 0


@summing_part
def _relative_gap(
    z: Array, c: Array, b: Array, energy: float, level: Array, ridge: float, positive: bool
) -> float:
    """The duality gap over ½‖x‖², as a sum in which large terms do not cancel.

    With ``a = c − ridge·z`` and the scale s that makes the residual feasible, it is
    ``½(1 − s)²·(‖x − Dz‖² + ridge·‖z‖²) + Σ (level·|z| − s·z·a)``.
    """
    scale = z[0] - z[0] + 1
    linear = square = cross = fit = z[0] - z[0]
    for k in range(z.shape[0]):
        ascent = c[k] - ridge * z[k]
        size = ascent if positive else abs(ascent)
        if size * scale > level[k]:
            scale = level[k] / size
        linear += level[k] * abs(z[k])
        square += z[k] * z[k]
        cross += z[k] * ascent
        fit += z[k] * (b[k] + c[k])
    residual = max(energy - fit, z[0] - z[0]) + ridge * square
    gap = (1 - scale) * (1 - scale) / 2 * residual + linear - scale * cross
    relative: float = max(gap, z[0] - z[0]) / max(energy / 2, 1e-30)
    return relative


@summing_part
def _correlate(z: Array, c: Array, b: Array, gram: Array) -> None:
    c[:] = b
    for j in range(z.shape[0]):
        if z[j] != 0:
            _subtract(c, z[j], gram[j])


@summing_part
def _solve_rows(
    start: int,
    stop: int,
    correlation: Array,
    gram: Array,
    energy: Array,
    level: Array,
    codes: Array,
    gaps: Array,
    taken: Array,
    ridge: float,
    positive: bool,
    rounds: int,
    tol: float,
) -> None:
    atoms = gram.shape[0]
    size = min(atoms, _LARGEST_SUPPORT)
    support, factor = np.empty(size, np.int64), np.empty((size, size), gram.dtype)
    step, c = np.empty(size, gram.dtype), np.empty(atoms, gram.dtype)
    least = np.sqrt(np.finfo(gram.dtype).eps)
    for row in range(start, stop):
        z, b = codes[row], correlation[row]
        _correlate(z, c, b, gram)
        done = 0
        gap = _relative_gap(z, c, b, energy[row], level, ridge, positive)
        while gap > tol and done < rounds:
            _sweep(z, c, gram, level, ridge, positive)
            if done >= _SWEEPS_BEFORE_NEWTON:
                for _ in range(_MOST_CUTS):
                    if _newton(z, c, gram, level, ridge, support, factor, step, least):
                        break
            done += 1
            if done <= _SWEEPS_BEFORE_NEWTON and done < rounds:
                continue  # it takes as long as some updates, and is not small yet
            gap = _relative_gap(z, c, b, energy[row], level, ridge, positive)
            if gap <= tol or done == rounds:  # without what the updates have rounded away
                _correlate(z, c, b, gram)
                gap = _relative_gap(z, c, b, energy[row], level, ridge, positive)
        gaps[row], taken[row] = gap, done


@driver
def _solve(
    chunks: int,
    rows: int,
    correlation: Array,
    gram: Array,
    energy: Array,
    level: Array,
    codes: Array,
    gaps: Array,
    taken: Array,
    ridge: float,
    positive: bool,
    rounds: int,
    tol: float,
) -> None:
    for chunk in prange(chunks):
        first, last = chunk * rows // chunks, (chunk + 1) * rows // chunks
        _solve_rows(
            first,
            last,
            correlation,
            gram,
            energy,
            level,
            codes,
            gaps,
            taken,
            ridge,
            positive,
            rounds,
            tol,
        )
