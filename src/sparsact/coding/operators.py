"""Dictionaries as linear operators: a matrix, a convolution, or a module with an adjoint."""

from typing import Protocol

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.coding.checks import check_count, check_squares, check_tensor

_POWER_STEPS = 200
_POWER_TOLERANCE = 1e-4
_LIPSCHITZ_MARGIN = 1.01  # power iteration approaches the largest eigenvalue from below
CONVOLUTIONS = {
    1: (nn.functional.conv1d, nn.functional.conv_transpose1d),
    2: (nn.functional.conv2d, nn.functional.conv_transpose2d),
    3: (nn.functional.conv3d, nn.functional.conv_transpose3d),
}


class Operator(Protocol):
    """What a dictionary must do; an ``nn.Module`` with a method ``adjoint`` does."""

    def __call__(self, codes: Tensor) -> Tensor:
        """The signals (batch, …) that the codes (batch, …) describe: linear in the codes."""

    def adjoint(self, signals: Tensor) -> Tensor:
        """The adjoint map: ``⟨D(z), x⟩ = ⟨z, D.adjoint(x)⟩`` for all codes and signals."""


class MatrixDictionary:
    """A matrix of atoms (atoms, dim) as an operator on codes (batch, atoms).

    The methods after `adjoint` are for solvers that use some of the atoms only.
    """

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix

    def __call__(self, codes: Tensor) -> Tensor:
        """``codes @ matrix``."""
        return codes @ self.matrix

    def adjoint(self, signals: Tensor) -> Tensor:
        """``signals @ matrix.mH``."""
        return signals @ self.matrix.mH

    def combine(self, code: Tensor) -> Tensor:
        """The signal (dim,) of one code (atoms,)."""
        return code @ self.matrix

    def select(self, index: Tensor) -> "MatrixDictionary":
        """The dictionary of some of the atoms."""
        return MatrixDictionary(self.matrix[index])

    def join(self, other: "MatrixDictionary") -> "MatrixDictionary":
        """The dictionary of these atoms and, behind them, those of another one."""
        return MatrixDictionary(torch.cat([self.matrix, other.matrix]))

    def scaled(self, factors: Tensor) -> "MatrixDictionary":
        """The dictionary with each atom times its factor, (atoms,)."""
        return MatrixDictionary(self.matrix * factors[:, None])

    def products(self, other: "MatrixDictionary") -> Tensor:
        """The inner products of these atoms and others, (atoms, others)."""
        return self.matrix @ other.matrix.t()

    def norms(self) -> Tensor:
        """The norm of each atom, (atoms,)."""
        norms: Tensor = torch.linalg.vector_norm(self.matrix, dim=1)
        return norms


class ConvDictionary(nn.Module):
    """Atoms that are shifted over a signal: codes are maps, one for each atom.

    A signal is ``Σ_a atom_a ∗ code_a``, a transposed convolution; the adjoint is the convolution
    with the same atoms.

    Args:
        atoms: (atoms, channels, size), (atoms, channels, height, width) or with three sizes.
        stride: step between the positions of an atom, at most its size.

    Raises:
        InputError: `atoms` has another number of dims, is empty or not finite, or `stride` leaves
            gaps between atoms. At a call: channels, sizes or the dtype do not fit.

    Example:
        >>> dictionary = ConvDictionary(torch.ones(1, 1, 2))
        >>> dictionary(torch.tensor([[[1.0, 0.0, 2.0]]])).detach()
        tensor([[[1., 1., 2., 2.]]])

    Source:
        Bristow, Eriksson & Lucey, "Fast convolutional sparse coding" (2013), for the model.
    """

    def __init__(self, atoms: Tensor, stride: int = 1) -> None:
        super().__init__()
        check_tensor(atoms, "atoms")
        if atoms.ndim - 2 not in CONVOLUTIONS or not len(atoms):
            raise InputError(
                "atoms= must be (atoms, channels, size) with at least one atom and one to three "
                f"sizes, got shape {tuple(atoms.shape)}"
            )
        check_squares(atoms, "atoms")
        check_stride(stride, atoms)
        self.atoms = nn.Parameter(atoms)
        self.stride = stride

    def forward(self, codes: Tensor) -> Tensor:
        """Signals (batch, channels, …) from codes (batch, atoms, …)."""
        self._check(codes, "codes", len(self.atoms))
        _, transposed = CONVOLUTIONS[self.atoms.ndim - 2]
        signals: Tensor = transposed(codes, self.atoms, stride=self.stride)
        return signals

    def adjoint(self, signals: Tensor) -> Tensor:
        """Codes (batch, atoms, …) from signals (batch, channels, …)."""
        self._check(signals, "signals", self.atoms.shape[1])
        sizes = signals.shape[2:]
        for size, atom in zip(sizes, self.atoms.shape[2:], strict=True):
            if size < atom or (size - atom) % self.stride:
                raise InputError(
                    f"signals of size {tuple(sizes)} do not fit atoms of size "
                    f"{tuple(self.atoms.shape[2:])} at stride {self.stride}: pad them so that "
                    "size − atom is a multiple of the stride"
                )
        convolution, _ = CONVOLUTIONS[self.atoms.ndim - 2]
        codes: Tensor = convolution(signals, self.atoms.conj(), stride=self.stride)
        return codes

    def _check(self, x: Tensor, name: str, channels: int) -> None:
        if x.ndim != self.atoms.ndim or x.shape[1] != channels or x.dtype != self.atoms.dtype:
            sizes = "size, " * (self.atoms.ndim - 2)
            raise InputError(
                f"{name} must be (batch, {channels}, {sizes[:-2]}) in {self.atoms.dtype} for atoms "
                f"of shape {tuple(self.atoms.shape)}, got shape {tuple(x.shape)} in {x.dtype}"
            )

    def extra_repr(self) -> str:
        """Atoms and stride."""
        return f"atoms={tuple(self.atoms.shape)}, stride={self.stride}"


def check_stride(stride: int, atoms: Tensor) -> None:
    """Raise InputError if the step between the positions of atoms leaves gaps between them."""
    size = min(atoms.shape[2:])
    check_count(stride, "stride")
    if not 1 <= stride <= size:
        raise InputError(f"stride= must be between 1 and the atom's size {size}, got {stride}")


@torch.no_grad()
def largest_eigenvalue(operator: Operator, codes: Tensor) -> float:
    """An upper estimate of the largest eigenvalue of ``z ↦ D.adjoint(D(z))``.

    Args:
        operator: the dictionary.
        codes: any codes of the right shape (batch, …), dtype and device.
    """
    if isinstance(operator, MatrixDictionary):
        matrix = operator.matrix
        gram = matrix @ matrix.mH if len(matrix) <= matrix.shape[1] else matrix.mH @ matrix
        return float(torch.linalg.eigvalsh(gram)[-1])
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(codes[:1].shape, generator=generator, dtype=torch.float64)
    vector = (vector / vector.norm()).to(codes)
    size = 0.0
    for _ in range(_POWER_STEPS):
        image = operator.adjoint(operator(vector))
        before, size = size, float(image.norm())
        if size == 0 or abs(size - before) <= _POWER_TOLERANCE * size:
            break
        vector = image / size
    return _LIPSCHITZ_MARGIN * size


@torch.no_grad()
def check_adjoint(operator: Operator, signals: Tensor) -> None:
    """Raise InputError unless ``⟨D(z), x⟩ = ⟨z, D.adjoint(x)⟩`` for a random z and x."""
    generator = torch.Generator().manual_seed(0)
    wide = torch.complex128 if signals.is_complex() else torch.float64
    x = torch.randn(signals[:1].shape, generator=generator, dtype=wide).to(signals)
    adjoint = operator.adjoint(x)
    check_tensor(adjoint, "dictionary.adjoint(x)")
    z = torch.randn(adjoint.shape, generator=generator, dtype=wide).to(signals)
    image = operator(z)
    check_tensor(image, "dictionary(z)")
    for result, source in ((adjoint, x), (image, z)):
        if result.dtype != source.dtype or not bool(result.isfinite().all()):
            raise InputError(
                f"dictionary= turns finite {source.dtype} into {result.dtype} or values that are "
                "not finite"
            )
    if image.shape != x.shape:
        raise InputError(
            f"dictionary= maps codes of shape {tuple(z.shape)} to {tuple(image.shape)}, and the "
            f"signals have shape {tuple(x.shape)}"
        )
    left, right = (image * x.conj()).sum().item(), (z * adjoint.conj()).sum().item()
    scale = float(image.norm() * x.norm() + z.norm() * adjoint.norm())
    if abs(left - right) > 1e4 * torch.finfo(x.dtype).eps * scale:
        raise InputError(
            f"the adjoint of dictionary= is not its adjoint: ⟨D(z), x⟩ is {left:.6g} and "
            f"⟨z, D.adjoint(x)⟩ is {right:.6g}"
        )
