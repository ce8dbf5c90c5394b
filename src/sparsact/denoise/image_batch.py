"""A user's images as a batch with additive noise, and the way back."""

from typing import Any

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.denoise.array_kinds import Array, ArrayKind, argument
from sparsact.denoise.blocks import prepared
from sparsact.denoise.missing_values import missing_values
from sparsact.denoise.noise_estimate import estimate_sigma
from sparsact.denoise.noise_levels import Sigma
from sparsact.denoise.noise_models import NoiseModel, NoiseName, noise_model
from sparsact.denoise.transformed_dims import back, channel_axis, last_dims
from sparsact.thresholds.arguments import broadcasts_to, check_threshold

COLOURS = 3


class ImageBatch:
    """Images (…, channels, H, W) without holes, whose noise is additive.

    Args:
        x: as ``denoise_learned`` takes it.
        function: the name in messages.
        sigma: the argument.
        channel_dim: the argument.
        noise: the argument.
        mask: the argument.

    Attributes:
        images: in float32 or float64, with 3 channels along `channel_dim` or 1.
        level: the standard deviation of the noise of each, (…).
        known: False where a value is missing, as the images, or None.
    """

    def __init__(
        self,
        x: Array,
        function: str,
        sigma: Sigma,
        channel_dim: int | None,
        noise: NoiseName | NoiseModel,
        mask: Array | None,
    ) -> None:
        self.kind = ArrayKind(x, function)
        wide = self.kind.real()
        missing = missing_values(wide, self.kind.mask(mask))
        sigma = argument(sigma)
        self.axes = last_dims(wide, 2, channel_dim)[1]
        self.colour = _colour_place(wide, channel_dim, self.axes)
        model = noise_model(noise, sigma)
        self.samples = prepared(wide, missing, self.axes, model, sigma)
        self.images = self._arranged(self.samples.values)
        absent = self.samples.missing
        self.known = None if absent is None else ~self._arranged(absent)
        if self.samples.sigma is None:
            self.level = self._estimate(channel_dim)
        else:
            self.level = self._given(self.samples.sigma)

    @property
    def has_8_bits(self) -> bool:
        """Whether the values are integers of 8 bits."""
        return self.kind.array is not None and self.kind.array.dtype.itemsize == 1

    def restore(self, clean: Tensor) -> Any:
        """Denoised images as the kind of the input."""
        colour = self.colour
        moved = clean.squeeze(-3) if colour is None else clean.movedim(-3, colour)
        restored = self.samples.inverse(back(moved, self.axes))
        return self.kind.restore(restored, self.samples.missing)

    def _arranged(self, x: Tensor) -> Tensor:
        """`x` as (…, channels, H, W)."""
        moved = x.movedim(self.axes, (-2, -1))
        return moved.unsqueeze(-3) if self.colour is None else moved.movedim(self.colour, -3)

    def _estimate(self, channel_dim: int | None) -> Tensor:
        absent = self.samples.missing
        mask = None if absent is None else ~absent
        level = estimate_sigma(self.samples.values, dims=2, channel_dim=channel_dim, mask=mask)
        return level if self.colour is None else level.square().mean(self.colour).sqrt()

    def _given(self, sigma: object) -> Tensor:
        if isinstance(sigma, (str, list, tuple)):
            raise InputError(f"sigma= must be a number, a tensor or None, got {sigma!r}")
        check_threshold(sigma, "sigma")
        images, batch = self.images, self.images.shape[:-3]
        level = torch.as_tensor(sigma, dtype=images.dtype, device=images.device)
        if not broadcasts_to(level.shape, batch):
            raise InputError(
                f"sigma= of shape {tuple(level.shape)} does not broadcast to the batch's shape "
                f"{tuple(batch)} (the dims other than those of the image and its colours)"
            )
        return level.expand(batch)


def _colour_place(x: Tensor, channel_dim: int | None, axes: tuple[int, ...]) -> int | None:
    """Where three colours are once the dims of the image are the last ones; None without them."""
    if channel_dim is None or x.shape[channel_axis(x, channel_dim)] != COLOURS:
        return None
    channel = channel_axis(x, channel_dim)
    return channel - sum(axis < channel for axis in axes)
