"""Unfolded networks: the steps of a solver as layers, with thresholds and weights that learn."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.coding.checks import (
    check_count,
    check_level,
    check_tensor,
    check_weights_of_steps,
)
from sparsact.coding.operators import MatrixDictionary, largest_eigenvalue
from sparsact.coding.proximal_gradient import fista_momenta
from sparsact.nn import Softshrink

ThresholdFactory = Callable[[float, int], nn.Module]
"""Takes the initial λ and the number of atoms; gives the threshold module of one step."""


def learned_softshrink(lambd: float, atoms: int) -> nn.Module:
    """A soft threshold with a λ for each atom."""
    return Softshrink(lambd, learnable=True, num_parameters=atoms, channel_dim=-1)


def check_noise(sigma: Tensor | float | None) -> None:
    """Raise InputError for a number that is no standard deviation."""
    if isinstance(sigma, (int, float)):
        check_level(sigma, "sigma")


def shrink(
    threshold: nn.Module, raised: Tensor, sigma: Tensor | float | None, positive: bool
) -> Tensor:
    """One step's threshold; σ times the threshold in units of σ, which at σ = 0 does nothing."""
    raised = raised.relu() if positive else raised
    if sigma is None:
        shrunk: Tensor = threshold(raised)
        return shrunk
    level = torch.as_tensor(sigma, dtype=raised.real.dtype, device=raised.device)
    unit = torch.where(level > 0, level, 1.0)
    return torch.where(level > 0, unit * threshold(raised / unit), raised)


def as_atoms(dictionary: Tensor | tuple[int, int]) -> Tensor:
    """The atoms, or random ones of norm 1 for a pair (dim, atoms).

    Raises:
        InputError: it is neither.
    """
    if isinstance(dictionary, tuple) and len(dictionary) == 2:
        dim, atoms = dictionary
        check_count(dim, "dim of dictionary")
        check_count(atoms, "atoms of dictionary")
        return nn.functional.normalize(torch.randn(atoms, dim))
    check_tensor(dictionary, "dictionary")
    assert isinstance(dictionary, Tensor)
    return dictionary.detach()


class _Unfolded(nn.Module):
    """What unfolded networks share: a threshold and, if wanted, a momentum for each step."""

    def __init__(
        self,
        dictionary: Tensor,
        steps: int,
        lambd: float,
        threshold: ThresholdFactory,
        momentum: bool,
        positive: bool,
    ) -> None:
        super().__init__()
        if dictionary.ndim != 2 or not len(dictionary):
            raise InputError(
                "dictionary= must be (atoms, dim) with at least one atom, got shape "
                f"{tuple(dictionary.shape)}"
            )
        check_weights_of_steps(dictionary)
        check_count(steps, "steps")
        check_level(lambd, "lambd")
        if positive and dictionary.is_complex():
            raise InputError("positive= needs a real dictionary")
        self.steps, self.positive = steps, positive
        self.atoms, self.dim = dictionary.shape
        self.step_size = 1 / largest_eigenvalue(MatrixDictionary(dictionary), dictionary)
        self.thresholds = nn.ModuleList(
            threshold(lambd * self.step_size, self.atoms) for _ in range(steps)
        )
        factors = fista_momenta(steps) if momentum else []
        self.momenta = nn.Parameter(torch.tensor(factors, dtype=dictionary.real.dtype))

    def _ascent(self, number: int, codes: Tensor, x: Tensor) -> Tensor:
        """What step `number` adds to the codes before its threshold."""
        raise NotImplementedError

    def forward(self, x: Tensor, sigma: Tensor | float | None = None) -> Tensor:
        """Codes (…, atoms) of signals (…, dim).

        Args:
            x: signals.
            sigma: the noise's standard deviation, a number or (…, 1): the thresholds are for unit
                noise then, and are multiplied by it. By default they are taken as they are.
        """
        check_noise(sigma)
        if not x.ndim or x.shape[-1] != self.dim:
            raise InputError(
                f"x= of shape {tuple(x.shape)} does not fit atoms of dim {self.dim}: its last dim "
                "must be that"
            )
        codes = x.new_zeros(*x.shape[:-1], self.atoms)
        ahead = codes
        for number, threshold in enumerate(self.thresholds):
            raised = ahead + self._ascent(number, ahead, x)
            new = shrink(threshold, raised, sigma, self.positive)
            moving = len(self.momenta) > 0
            ahead = new + self.momenta[number] * (new - codes) if moving else new
            codes = new
        return codes


class LISTA(_Unfolded):
    """Learned ISTA: ``z ← T_k(z + (x − z·D_k)·W_kᵀ)`` for steps k.

    Untrained, with ``D_k = D`` and ``W_k = D/L``, it computes `steps` steps of ISTA (of FISTA with
    `momentum`) on the lasso with penalty `lambd`; after training on signals of one kind, its
    few steps do the work of many.

    Encoders and thresholds are `step_size` times as large as atoms and λ. Adam moves all entries by
    about its rate, so give those a rate that is `step_size` times as large too.

    Args:
        dictionary: atoms (atoms, dim), copied into parameters; or a pair (dim, atoms), for random
            atoms of norm 1.
        steps: number of layers.
        lambd: λ of the lasso that the untrained network solves.
        tied: whether all steps share D and W; thresholds are the step's own in any case.
        momentum: whether a step starts ahead of its codes by a learned factor, as in FISTA.
        threshold: makes the threshold module of a step; any of ``sparsact.nn``.
        positive: codes must not be negative.

    Raises:
        InputError: a dictionary that is no matrix, has no atoms, is zero or not finite; no steps; a
            λ below 0. At a call: signals of another dim.

    Example:
        >>> net = LISTA(torch.eye(4), steps=3, lambd=0.5)
        >>> net(torch.tensor([2.0, 0.3, -1.0, 0.0])).detach()
        tensor([ 1.5000,  0.0000, -0.5000,  0.0000])

    Source:
        Gregor & LeCun, "Learning fast approximations of sparse coding" (2010); the coupling of D
        and W as in Chen et al., "Theoretical linear convergence of unfolded ISTA" (2018).
    """

    def __init__(
        self,
        dictionary: Tensor | tuple[int, int],
        steps: int,
        lambd: float = 0.1,
        *,
        tied: bool = True,
        momentum: bool = False,
        threshold: ThresholdFactory = learned_softshrink,
        positive: bool = False,
    ) -> None:
        atoms = as_atoms(dictionary)
        super().__init__(atoms, steps, lambd, threshold, momentum, positive)
        copies = 1 if tied else steps
        self.decoders = nn.ParameterList(nn.Parameter(atoms.clone()) for _ in range(copies))
        self.encoders = nn.ParameterList(
            nn.Parameter(atoms * self.step_size) for _ in range(copies)
        )

    def _ascent(self, number: int, codes: Tensor, x: Tensor) -> Tensor:
        shared = number % len(self.decoders)
        residual = x - codes @ self.decoders[shared]
        ascent: Tensor = residual @ self.encoders[shared].mH
        return ascent


class ALISTA(_Unfolded):
    """Learned ISTA with analytic weights: only a step size and the thresholds of each step learn.

    ``z ← T_k(z + γ_k·(x − z·D)·Wᵀ)``, where W minimises ``‖W·Dᵀ‖_F`` with ``w_j·d_j = 1``: the row
    w_j is ``(DᵀD)⁻¹·d_j``, scaled. For an orthonormal D it is LISTA.

    Args:
        dictionary: atoms (atoms, dim) that span the space of signals, fixed; or a pair (dim,
            atoms), as in :class:`LISTA`.
        steps: number of layers.
        lambd: initial λ, as in :class:`LISTA`.
        momentum: see :class:`LISTA`.
        threshold: see :class:`LISTA`.
        positive: see :class:`LISTA`.

    Raises:
        InputError: as :class:`LISTA`; or atoms that are complex, zero or do not span the signals'
            space.

    Source:
        Liu et al., "ALISTA: Analytic weights are as good as learned weights in LISTA" (2019).
    """

    decoder: Tensor
    encoder: Tensor

    def __init__(
        self,
        dictionary: Tensor | tuple[int, int],
        steps: int,
        lambd: float = 0.1,
        *,
        momentum: bool = False,
        threshold: ThresholdFactory = learned_softshrink,
        positive: bool = False,
    ) -> None:
        atoms = as_atoms(dictionary)
        if atoms.is_complex():
            raise InputError("dictionary= of ALISTA must be real, got a complex one: take LISTA")
        super().__init__(atoms, steps, lambd, threshold, momentum, positive)
        self.register_buffer("decoder", atoms.clone())
        self.register_buffer("encoder", _analytic_weights(atoms))
        initial = 1 / float(torch.linalg.eigvals(self.encoder @ self.decoder.t()).abs().max())
        self.step_sizes = nn.Parameter(torch.full((steps,), initial, dtype=atoms.dtype))

    def _ascent(self, number: int, codes: Tensor, x: Tensor) -> Tensor:
        residual = x - codes @ self.decoder
        ascent: Tensor = self.step_sizes[number] * (residual @ self.encoder.t())
        return ascent


def _analytic_weights(atoms: Tensor) -> Tensor:
    if int(torch.linalg.matrix_rank(atoms)) < atoms.shape[1]:
        raise InputError(
            f"dictionary= has {len(atoms)} atoms that do not span the {atoms.shape[1]} dims of the "
            "signals: the analytic weights do not exist"
        )
    if not bool(atoms.any(1).all()):
        raise InputError("dictionary= holds an atom of zeros, for which no analytic weight exists")
    weights: Tensor = torch.linalg.solve(atoms.t() @ atoms, atoms.t()).t()
    return weights / (weights * atoms).sum(1, keepdim=True)
