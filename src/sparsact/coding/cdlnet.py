"""CDLNet: a denoiser that is an unfolded convolutional sparse coder."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.coding.convolutional import ConvLISTA, Scales, learned_channel_softshrink
from sparsact.coding.unfolded import ThresholdFactory

_NORMAL_MEDIAN = 0.6744897501960817  # the median of |x| for unit normal x


class CDLNet(nn.Module):
    """A denoiser: the signal of the maps that :class:`ConvLISTA` finds, with its own dictionary.

    The thresholds are learned for unit noise and multiplied by σ, so one network is for all noise
    levels, those outside its training range too. The mean of each sample is left out of the code.

    With n atoms of s entries in c channels it has ``2·steps·n·c·s + steps·n`` parameters at one
    scale: 190,080 for grey images at 64 atoms of 7×7 and 30 steps, 283,200 for colour at 15 steps.

    Args:
        channels: 1 for grey, 3 for colour.
        atoms: number of atoms; one or one per scale.
        size: side of the atoms; one or one per scale.
        steps: number of layers.
        stride: step between the positions of an atom; one or one per scale. 2 makes a step about
            four times cheaper on images.
        lambd: the initial λ of all thresholds for unit noise.
        dims: 2 for images, 1 for signals, 3 for volumes.
        tied: whether all steps share their dictionaries.
        momentum: as in :class:`ConvLISTA`.
        threshold: as in :class:`ConvLISTA`.
        generator: draws the initial atoms.

    Raises:
        InputError: as :class:`ConvLISTA`; numbers of scales that do not fit.

    Example:
        >>> net = CDLNet(channels=1, atoms=8, size=5, steps=3)
        >>> net(torch.rand(2, 1, 20, 30), sigma=25 / 255).shape
        torch.Size([2, 1, 20, 30])
        >>> sum(parameter.numel() for parameter in net.parameters())
        1224

    Source:
        Janjušević, Khalilian-Gourtani & Wang, "CDLNet: Noise-adaptive convolutional dictionary
        learning network for blind denoising and demosaicing" (2022). Here the thresholds have no
        part that is free of σ.
    """

    def __init__(
        self,
        channels: int = 1,
        atoms: int | Sequence[int] = 64,
        size: int | Sequence[int] = 7,
        steps: int = 20,
        *,
        stride: int | Sequence[int] = 1,
        lambd: float = 1.0,
        dims: int = 2,
        tied: bool = False,
        momentum: bool = False,
        threshold: ThresholdFactory = learned_channel_softshrink,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        counts, sizes = _per_scale(atoms, size)
        if dims not in (1, 2, 3) or channels < 1 or min(*counts, *sizes) < 1:
            raise InputError(
                "dims= must be 1, 2 or 3 and channels=, atoms= and size= at least 1, got "
                f"{dims}, {channels}, {atoms} and {size}"
            )
        dictionary = [
            _random_atoms((count, channels, *[side] * dims), generator)
            for count, side in zip(counts, sizes, strict=True)
        ]
        self.coder = ConvLISTA(
            dictionary,
            steps,
            lambd,
            stride=stride,
            tied=tied,
            momentum=momentum,
            threshold=threshold,
        )
        self.dictionary = nn.ParameterList(dictionary)
        self.margin = max(sizes) - 1  # every entry is in all shifts of an atom

    def forward(self, x: Tensor, sigma: Tensor | float | None = None) -> Tensor:
        """The denoised signals, of the shape of `x`.

        Args:
            x: noisy signals (batch, channels, …).
            sigma: the noise's standard deviation in the units of `x`: a number, or one per sample,
                (batch,) or (batch, 1, …). By default it is estimated, by :func:`noise_level`.
        """
        channels = self.dictionary[0].shape[1]
        if x.ndim != self.dictionary[0].ndim or x.shape[1] != channels:
            raise InputError(
                f"x= must be (batch, {channels}, …) with {self.dictionary[0].ndim - 2} sizes, got "
                f"shape {tuple(x.shape)}"
            )
        if min(x.shape[2:]) <= self.margin:
            raise InputError(
                f"x= of shape {tuple(x.shape)} is too small for its mirrored margin of "
                f"{self.margin}"
            )
        level = noise_level(x) if sigma is None else sigma
        if isinstance(level, Tensor) and level.ndim == 1:
            level = level.view(-1, *[1] * (x.ndim - 1))
        mean = x.mean(dim=tuple(range(1, x.ndim)), keepdim=True)
        clean = self.reconstruct(_mirror(x - mean, self.margin), level)
        for dim, side in enumerate(x.shape[2:], 2):
            clean = clean.narrow(dim, self.margin, side)
        return clean + mean

    def reconstruct(self, x: Tensor, sigma: Tensor | float | None) -> Tensor:
        """The signals of the codes of `x`, without margin and mean; `sigma` as in ConvLISTA."""
        scales = Scales(list(self.dictionary), self.coder.strides)
        return scales.synthesise(self.coder(x, sigma), x.shape[2:])


@torch.no_grad()
def noise_level(x: Tensor) -> Tensor:
    """The standard deviation of white noise in each sample, (batch,).

    It is the median modulus of the mixed differences of neighbours along all dims, over 0.6745.
    They hold little of the signal where it is smooth; fine texture raises the estimate.

    Args:
        x: (batch, channels, …) with at least 2 entries in each size.

    Example:
        >>> x = 0.1 * torch.randn(1, 1, 200, 200, generator=torch.Generator().manual_seed(0))
        >>> round(float(noise_level(x)), 2)
        0.1

    Source:
        Donoho & Johnstone, "Ideal spatial adaptation by wavelet shrinkage" (1994), on the finest
        Haar coefficients.
    """
    if x.ndim < 3 or min(x.shape[2:]) < 2:
        raise InputError(
            f"x= must be (batch, channels, …) with sizes above 1, got {tuple(x.shape)}"
        )
    details = x
    for dim in range(2, x.ndim):
        details = details.diff(dim=dim) / math.sqrt(2)
    median: Tensor = details.abs().flatten(1).median(1).values
    return median / _NORMAL_MEDIAN


def _mirror(x: Tensor, margin: int) -> Tensor:
    return nn.functional.pad(x, [margin] * (2 * (x.ndim - 2)), mode="reflect") if margin else x


def _random_atoms(shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    atoms = torch.randn(shape, generator=generator)
    norms: Tensor = torch.linalg.vector_norm(atoms.flatten(1), dim=1)
    return atoms / norms.view(-1, *[1] * (len(shape) - 1))


def _per_scale(
    atoms: int | Sequence[int], size: int | Sequence[int]
) -> tuple[list[int], list[int]]:
    """Atoms and sizes, one for each scale."""
    scales = max((len(each) for each in (atoms, size) if not isinstance(each, int)), default=1)
    counts = [atoms] * scales if isinstance(atoms, int) else list(atoms)
    sizes = [size] * scales if isinstance(size, int) else list(size)
    if not len(counts) == len(sizes) == scales > 0:
        raise InputError(f"atoms= and size= must have one number per scale, got {atoms} and {size}")
    return counts, sizes
