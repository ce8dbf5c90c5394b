"""Unfolded networks on convolutional dictionaries, at one scale or several."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.coding.checks import (
    check_count,
    check_level,
    check_tensor,
    check_weights_of_steps,
)
from sparsact.coding.operators import CONVOLUTIONS, check_stride, largest_eigenvalue
from sparsact.coding.proximal_gradient import fista_momenta
from sparsact.coding.unfolded import ThresholdFactory, check_noise, shrink
from sparsact.nn import Softshrink

_SIDES = {1: 256, 2: 48, 3: 16}  # of the signal whose largest eigenvalue gives the step size


def learned_channel_softshrink(lambd: float, atoms: int) -> nn.Module:
    """A soft threshold with a λ for each map."""
    return Softshrink(lambd, learnable=True, num_parameters=atoms, channel_dim=1)


class Scales:
    """Sums of transposed convolutions, one for each scale, and their adjoints.

    A signal of any size is taken: where the atoms of a scale do not fit, it is as if zeros were
    behind it.

    Args:
        atoms: for each scale (atoms, channels, …).
        strides: for each scale the step between the positions of an atom.
    """

    def __init__(self, atoms: Sequence[Tensor], strides: Sequence[int]) -> None:
        self.atoms, self.strides = atoms, strides

    def __call__(self, signals: Tensor) -> list[Tensor]:
        """For each scale the inner products with all atoms, (batch, atoms, …)."""
        convolution, _ = CONVOLUTIONS[signals.ndim - 2]
        maps = []
        for atoms, stride in zip(self.atoms, self.strides, strict=True):
            pads: list[int] = []
            for size, side in zip(signals.shape[:1:-1], atoms.shape[:1:-1], strict=True):
                pads += [0, max(side - size, (side - size) % stride)]
            fitted = nn.functional.pad(signals, pads) if any(pads) else signals
            maps.append(convolution(fitted, atoms.conj(), stride=stride))
        return maps

    def synthesise(self, maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """The signals (batch, channels, *size) of maps."""
        total: Tensor | None = None
        for each, atoms, stride in zip(maps, self.atoms, self.strides, strict=True):
            _, transposed = CONVOLUTIONS[each.ndim - 2]
            part = transposed(each, atoms, stride=stride)
            for dim, side in enumerate(size, 2):
                part = part.narrow(dim, 0, side)
            total = part if total is None else total + part
        assert total is not None
        return total

    def eigenvalue(self) -> float:
        """An upper estimate of the largest eigenvalue of ``D.adjoint(D(·))``."""
        dims = self.atoms[0].ndim - 2
        largest = max(max(atoms.shape[2:]) for atoms in self.atoms)
        size = [max(_SIDES[dims], 3 * largest)] * dims
        signal = self.atoms[0].new_zeros(1, self.atoms[0].shape[1], *size)
        transposed: Any = _Transposed(self, size)
        return largest_eigenvalue(transposed, signal)


class _Transposed:
    """The operator from signals to maps, which has the same eigenvalues."""

    def __init__(self, scales: Scales, size: Sequence[int]) -> None:
        self.scales, self.size = scales, size

    def __call__(self, signals: Tensor) -> list[Tensor]:
        return self.scales(signals)

    def adjoint(self, maps: list[Tensor]) -> Tensor:
        return self.scales.synthesise(maps, self.size)


class ConvLISTA(nn.Module):
    """Learned ISTA on a convolutional dictionary: maps ``z ← T_k(z + W_k*(x − D_k(z)))``.

    Untrained, it computes `steps` steps of ISTA (of FISTA with `momentum`) on the lasso with
    penalty `lambd`, of :class:`ConvDictionary` at one scale. Each step has a threshold for each
    map. One scale has ``2·n·c·s + steps·n`` parameters for n atoms of s entries in c channels, and
    ``(2·steps − 1)·n·c·s + steps·n`` without `tied`.

    Args:
        dictionary: atoms (atoms, channels, …) with one to three sizes, or several such tensors,
            one for each scale; copied into parameters.
        steps: number of layers.
        lambd: λ of the lasso that the untrained network solves.
        stride: step between the positions of an atom, at most its size; one or one per scale.
        tied: whether all steps share D and W.
        momentum: whether a step starts ahead of its codes by a learned factor, as in FISTA.
        threshold: makes the threshold module of a step and a scale; any of ``sparsact.nn`` that
            acts on maps (batch, atoms, …).
        positive: codes must not be negative.

    Raises:
        InputError: atoms that do not fit each other, no atoms, a stride beyond an atom, no steps.

    Example:
        >>> net = ConvLISTA(torch.ones(1, 1, 2), steps=2, lambd=0.5, stride=2)
        >>> net(torch.tensor([[[1.0, 1.0, 0.1, 0.2]]])).shape
        torch.Size([1, 1, 2])

    Source:
        Sreter & Giryes, "Learned convolutional sparse coding" (2018).
    """

    def __init__(
        self,
        dictionary: Tensor | Sequence[Tensor],
        steps: int,
        lambd: float = 0.1,
        *,
        stride: int | Sequence[int] = 1,
        tied: bool = True,
        momentum: bool = False,
        threshold: ThresholdFactory = learned_channel_softshrink,
        positive: bool = False,
    ) -> None:
        super().__init__()
        self.one_scale = isinstance(dictionary, Tensor)
        atoms = [dictionary] if isinstance(dictionary, Tensor) else list(dictionary)
        self.strides = [stride] * len(atoms) if isinstance(stride, int) else list(stride)
        _check_atoms(atoms, self.strides)
        check_count(steps, "steps")
        check_level(lambd, "lambd")
        if positive and atoms[0].is_complex():
            raise InputError("positive= needs a real dictionary")
        self.steps, self.positive = steps, positive
        atoms = [each.detach() for each in atoms]
        self.step_size = 1 / Scales(atoms, self.strides).eigenvalue()
        copies = 1 if tied else steps
        uses = min(copies, steps - 1)  # the first step starts at zero and needs no D
        self.decoders = nn.ParameterList(each.clone() for _ in range(uses) for each in atoms)
        self.encoders = nn.ParameterList(
            self.step_size * each for _ in range(copies) for each in atoms
        )
        self.thresholds = nn.ModuleList(
            threshold(lambd * self.step_size, len(each)) for _ in range(steps) for each in atoms
        )
        factors = torch.tensor(fista_momenta(steps)[:-1], dtype=atoms[0].real.dtype)
        self.momenta = nn.Parameter(factors) if momentum else None

    def maps(self, x: Tensor, sigma: Tensor | float | None = None) -> list[Tensor]:
        """The maps of each scale, (batch, atoms, …); see :meth:`forward`."""
        codes: list[Tensor] = []
        ahead: list[Tensor] = []
        for number in range(self.steps):
            ascent = self._scales(self.encoders, number)(self._residual(x, ahead, number))
            codes = codes or [torch.zeros_like(each) for each in ascent]
            raised = [a + b for a, b in zip(ahead, ascent, strict=True)] if ahead else ascent
            thresholds = self.thresholds[number * len(raised) : (number + 1) * len(raised)]
            new = [
                shrink(threshold, each, sigma, self.positive)
                for threshold, each in zip(thresholds, raised, strict=True)
            ]
            ahead = new
            if self.momenta is not None and number < len(self.momenta):
                factor = self.momenta[number]
                ahead = [a + factor * (a - b) for a, b in zip(new, codes, strict=True)]
            codes = new
        return codes

    def _residual(self, x: Tensor, ahead: list[Tensor], number: int) -> Tensor:
        """What the codes leave of the signals; the first step has no codes yet."""
        if not number:
            return x
        return x - self._scales(self.decoders, number - 1).synthesise(ahead, x.shape[2:])

    def forward(
        self, x: Tensor, sigma: Tensor | float | None = None
    ) -> Tensor | tuple[Tensor, ...]:
        """Maps (batch, atoms, …) of signals (batch, channels, …); a tuple for several scales.

        Args:
            x: signals of any size that is at least that of an atom.
            sigma: the noise's standard deviation, a number or a tensor that broadcasts to the
                maps, such as (batch, 1, 1, 1): the thresholds are for unit noise then, and are
                multiplied by it. By default they are taken as they are.
        """
        check_noise(sigma)
        first = self.encoders[0]
        if x.ndim != first.ndim or x.shape[1] != first.shape[1]:
            raise InputError(
                f"x= of shape {tuple(x.shape)} does not fit atoms of shape {tuple(first.shape)}"
            )
        maps = self.maps(x, sigma)
        return maps[0] if self.one_scale else tuple(maps)

    def _scales(self, weights: nn.ParameterList, number: int) -> Scales:
        count = len(self.strides)
        start = number * count % len(weights)
        return Scales(list(weights[start : start + count]), self.strides)


def _check_atoms(atoms: list[Tensor], strides: list[int]) -> None:
    if not atoms or len(atoms) != len(strides):
        raise InputError(
            "dictionary= must hold at least one tensor of atoms, and stride= one number for each: "
            f"got {len(atoms)} and {len(strides)}"
        )
    for each, stride in zip(atoms, strides, strict=True):
        check_tensor(each, "dictionary")
        if each.ndim - 2 not in CONVOLUTIONS or not len(each):
            raise InputError(
                "dictionary= must be (atoms, channels, size) with at least one atom and one to "
                f"three sizes, got shape {tuple(each.shape)}"
            )
        if each.ndim != atoms[0].ndim or each.shape[1] != atoms[0].shape[1]:
            raise InputError(
                "the atoms of all scales must have the same number of channels and of sizes, got "
                f"shapes {tuple(atoms[0].shape)} and {tuple(each.shape)}"
            )
        check_weights_of_steps(each)
        check_stride(stride, each)
