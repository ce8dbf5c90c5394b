"""A sparse matrix of atoms as a dictionary."""

import warnings
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sparsact._common.errors import InputError

_DENSE_ATOMS = 16  # atoms that a product takes as a dense matrix; more would leave the cache


class SparseDictionary:
    """A sparse matrix of atoms (atoms, dim) in CSR; the interface is that of `MatrixDictionary`."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix
        self.offsets, self.columns = matrix.crow_indices(), matrix.col_indices()
        self.values = matrix.values()

    def __call__(self, codes: Tensor) -> Tensor:
        """``codes @ matrix``."""
        return (self._by_dim @ codes.t()).t()

    def adjoint(self, signals: Tensor) -> Tensor:
        """``signals @ matrix.T``."""
        return (self.matrix @ signals.t()).t()

    @cached_property
    def _by_dim(self) -> Tensor:
        """The transpose in CSR: torch converts a transposed CSR anew for each product."""
        with warnings.catch_warnings():
            _silence()
            return self.matrix.t().to_sparse_csr()

    def combine(self, code: Tensor) -> Tensor:
        """The signal (dim,) of one code (atoms,)."""
        terms = self.values * code[self.rows()]
        return terms.new_zeros(self.matrix.shape[1]).index_add(0, self.columns, terms)

    def select(self, index: Tensor) -> "SparseDictionary":
        """The dictionary of some of the atoms."""
        first, counts = self.offsets[index], self.offsets[index + 1] - self.offsets[index]
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0, dtype=counts.dtype)])
        place = torch.arange(int(offsets[-1])) + (first - offsets[:-1]).repeat_interleave(counts)
        shape = len(index), self.matrix.shape[1]
        return SparseDictionary(csr(offsets, self.columns[place], self.values[place], shape))

    def join(self, other: "SparseDictionary") -> "SparseDictionary":
        """The dictionary of these atoms and, behind them, those of another one."""
        offsets = torch.cat([self.offsets, self.offsets[-1] + other.offsets[1:]])
        columns = torch.cat([self.columns, other.columns])
        shape = len(offsets) - 1, self.matrix.shape[1]
        return SparseDictionary(
            csr(offsets, columns, torch.cat([self.values, other.values]), shape)
        )

    def scaled(self, factors: Tensor) -> "SparseDictionary":
        """The dictionary with each atom times its factor, (atoms,)."""
        values, shape = self.values * factors[self.rows()], tuple(self.matrix.shape)
        return SparseDictionary(csr(self.offsets, self.columns, values, shape))

    def products(self, other: "SparseDictionary") -> Tensor:
        """The inner products of these atoms and others, (atoms, others)."""
        return torch.cat(
            [
                self._dense_products(other.select(few))
                for few in torch.arange(len(other.matrix)).split(_DENSE_ATOMS)
            ],
            1,
        )

    def _dense_products(self, other: "SparseDictionary") -> Tensor:
        dense = self.values.new_zeros(self.matrix.shape[1], len(other.matrix))
        dense[other.columns.long(), other.rows()] = other.values
        return self.matrix @ dense

    def norms(self) -> Tensor:
        """The norm of each atom, (atoms,)."""
        squares = csr(self.offsets, self.columns, self.values.square(), tuple(self.matrix.shape))
        return (squares @ self.values.new_ones(self.matrix.shape[1])).sqrt()

    def rows(self) -> Tensor:
        """The atom of each entry."""
        counts = self.offsets[1:] - self.offsets[:-1]
        return torch.arange(len(counts)).repeat_interleave(counts)


def sparse_matrix(matrix: Any) -> Tensor:
    """A sparse matrix of torch or SciPy as CSR of torch; values are shared where possible.

    Raises:
        InputError: a gradient to the matrix is required.
    """
    if isinstance(matrix, Tensor):
        if matrix.requires_grad:
            raise InputError("dictionary= is sparse and requires a gradient: pass a dense one")
        with warnings.catch_warnings():
            _silence()
            return matrix.to_sparse_csr()
    rows = matrix.tocsr()
    if not rows.has_canonical_format:  # equal or unordered columns in a row
        rows = rows.copy()
        rows.sum_duplicates()
    offsets, columns = torch.from_numpy(rows.indptr), torch.from_numpy(rows.indices)
    return csr(offsets, columns, torch.from_numpy(rows.data), tuple(rows.shape))


def csr(offsets: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``torch.sparse_csr_tensor`` without its note that it is in beta."""
    if offsets.dtype != columns.dtype:  # torch takes int32 or int64 for both
        offsets, columns = offsets.long(), columns.long()
    with warnings.catch_warnings():
        _silence()
        return torch.sparse_csr_tensor(offsets, columns, values, shape, check_invariants=False)


def _silence() -> None:
    warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
