"""Shrink the wavelet coefficients of a batch of blocks whose last dims are transformed."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sparsact.denoise.blocks import Blocks
from sparsact.denoise.filtering import Border, extend
from sparsact.denoise.noise_estimate import has_noise
from sparsact.denoise.noise_levels import Noise, noisy_levels
from sparsact.denoise.threshold_rules import Given, Level, NoisyLevel, choose
from sparsact.denoise.wavelet_filters import FilterBank
from sparsact.denoise.wavelet_transform import Bands, decompose, recompose

Shrink = Callable[[Tensor, Level], Tensor]


@dataclass(frozen=True)
class Shrinkage:
    """What is done to each block.

    Attributes:
        bank: the filters.
        depths: the number of levels along each transformed dim.
        border: how blocks continue beyond their borders.
        threshold: a rule or λ.
        shrink: the threshold function.
        noise: what is known of the noise.
        spins: the number of shifts per dim; 0 for all, with the stationary transform.
        batch: the shape of the batch to which given λ broadcast.
        joint: whether the first dim holds real and imaginary parts, which share a modulus.
    """

    bank: FilterBank
    depths: tuple[int, ...]
    border: Border
    threshold: str | Given
    shrink: Shrink
    noise: Noise
    spins: int
    batch: torch.Size
    joint: bool = False

    def __call__(self, blocks: Blocks, samples_at_once: int) -> Tensor:
        """The denoised samples; large batches in pieces of about so many samples."""
        ndim, sizes = len(self.depths), blocks.values.shape[-len(self.depths) :]
        batch = blocks.values.shape[:-ndim]
        count = max(1, samples_at_once // sizes.numel())
        is_same = isinstance(self.threshold, (str, float, int)) and self.noise.is_same_for(ndim)
        if self.joint or not is_same or batch.numel() <= count:
            return self._spun(blocks)
        # allocating large tensors costs more than arithmetic
        pieces = [self._spun(piece) for piece in blocks.pieces(ndim, count)]
        return torch.cat(pieces).reshape(blocks.values.shape)

    def _spun(self, blocks: Blocks) -> Tensor:
        if self.spins == 0:
            return self._once(blocks, stationary=True)
        if self.spins == 1:
            return self._once(blocks, stationary=False)
        return self._mean_of_shifts(blocks)

    def _mean_of_shifts(self, blocks: Blocks) -> Tensor:
        """The mean over shifts by 0 … spins − 1 in every dim."""
        ndim, x = len(self.depths), blocks.values
        total = torch.zeros_like(x)
        for shifts in itertools.product(range(self.spins), repeat=ndim):
            block = blocks
            for dim, shift in zip(range(-ndim, 0), shifts, strict=True):
                later = partial(extend, dim=dim, left=shift, right=0, border=self.border)
                block = block.each(later) if shift else block
            clean = self._once(block, stationary=False)
            for dim, shift in zip(range(-ndim, 0), shifts, strict=True):
                clean = clean.narrow(dim, shift, x.shape[dim])
            total = total + clean
        mean: Tensor = total / self.spins**ndim
        return mean

    def _once(self, blocks: Blocks, stationary: bool) -> Tensor:
        ndim = len(self.depths)
        bands = self._decompose(blocks.values, self.bank, stationary)
        noisy = has_noise(blocks.values, ndim) if self.noise.is_estimated else None
        levels = noisy_levels(
            bands,
            self.noise,
            noisy,
            self._maps(blocks.missing, self.bank.box, stationary),
            self._maps(blocks.variance, self.bank.squared, stationary),
            averaged=self.spins != 1,
        )
        if self.joint:
            levels = [_of_modulus(level) for level in levels]
        chosen = choose(self.threshold, levels, math.prod(blocks.values.shape[-ndim:]), self.batch)
        details = [
            self._shrunk(values, lambd) for values, lambd in zip(bands.details, chosen, strict=True)
        ]
        clean = recompose(bands.with_details(details))
        return clean if noisy is None else torch.where(noisy, clean, blocks.values)

    def _decompose(self, x: Tensor, bank: FilterBank, stationary: bool) -> Bands:
        return decompose(x, bank, self.depths, len(self.depths), stationary, self.border)

    def _maps(self, map_: Tensor | None, bank: FilterBank, stationary: bool) -> list[Tensor] | None:
        """The details of a map of the samples, per level."""
        return None if map_ is None else self._decompose(map_, bank, stationary).details

    def _shrunk(self, values: Tensor, lambd: Level) -> Tensor:
        if not self.joint:
            return self.shrink(values, lambd)
        size = _modulus(values)
        share: Tensor = self.shrink(size, lambd) / torch.where(size > 0, size, 1.0)
        return values * share


def _of_modulus(level: NoisyLevel) -> NoisyLevel:
    """The root mean square of real and imaginary parts, which has the noise of one of them."""
    sigma, part = level.sigma, level.sigma.ndim - level.values.ndim + 1
    if part >= 0:
        sigma = sigma.square().mean(part, keepdim=True).sqrt()
    counted = None if level.counted is None else level.counted[:, :1]
    values = _modulus(level.values) / math.sqrt(2)
    return level._replace(values=values, sigma=sigma, counted=counted)


def _modulus(values: Tensor) -> Tensor:
    """The modulus of (bands, 2, …) with a finite gradient at 0: (bands, 1, …)."""
    square = values.square().sum(1, keepdim=True)
    return torch.where(square > 0, torch.where(square > 0, square, 1.0).sqrt(), 0.0)
