"""The network that removes noise from images: CDLNet on the phases of 2×2 pixels."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from sparsact.coding import CDLNet

LAYERS = {1: 12, 3: 9}  # of the networks of the package, by channels
SIDE = 8  # of an atom in pixels
EDGE = SIDE - 2  # pixels at the edge of an image that are in fewer atoms than others
START = 2.5  # initial thresholds in standard deviations of the noise
OPPONENT = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (1.0, -2.0, 1.0))  # brightness, two differences
CHROMA = 8  # cosines of each colour difference


class ShrinkageNetwork(nn.Module):
    """An unfolded sparse coder with atoms of 8×8 pixels at every second pixel.

    Each of its steps is ``z ← S_λ(z + W(x − D z))``; its last dictionary gives the image. The
    thresholds λ are for unit noise, so the image is divided by σ before and multiplied by it after.
    A dictionary at every second pixel is one at every position of the four phases of the image,
    whose convolutions are several times faster.

    Untrained it shrinks coefficients of the cosine transform of all 8×8 blocks.

    Args:
        channels: 1 for grey, 3 for colour.
        steps: number of layers.

    Source:
        Janjušević, Khalilian-Gourtani & Wang, "CDLNet: Noise-adaptive convolutional dictionary
        learning network for blind denoising and demosaicing" (2022).
    """

    def __init__(self, channels: int, steps: int) -> None:
        super().__init__()
        atoms = pixel_unshuffle(_cosines(channels) / (SIDE / 2), 2)  # D·Dᵀ is the identity
        self.channels = channels
        self.net = CDLNet(4 * channels, len(atoms), SIDE // 2, steps)
        self.reach = EDGE * (steps + 1)  # pixels on either side on which one depends
        with torch.no_grad():
            for weights in (*self.net.coder.encoders, *self.net.coder.decoders):
                weights.copy_(atoms)
            self.net.dictionary[0].copy_(atoms)
            noise = torch.linalg.vector_norm(atoms.flatten(1), dim=1)
            noise[atoms.sum((1, 2, 3)).abs() > 1] = 0.0  # the mean of a block has no threshold
            for threshold in self.net.coder.thresholds:
                threshold.get_parameter("lambd").copy_(START * noise)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        dtype: torch.dtype = self.net.dictionary[0].dtype
        return dtype

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Denoised images without a margin of their own.

        Args:
            x: (batch, channels, H, W), even sizes of at least 8, about 0.
            sigma: the noise in the units of `x`, positive: a number or (batch, 1, 1, 1).
        """
        phases = pixel_unshuffle(x / sigma, 2).contiguous(memory_format=torch.channels_last)
        clean: Tensor = pixel_shuffle(self.net.reconstruct(phases, None), 2)
        return clean * sigma


def _cosines(channels: int) -> Tensor:
    """Unit-norm atoms (atoms, channels, 8, 8): cosines, of low frequency for the colours."""
    positions = torch.arange(SIDE, dtype=torch.float64)
    waves = torch.cos(math.pi / SIDE * (positions + 0.5) * positions[:, None])
    waves = waves / torch.linalg.vector_norm(waves, dim=1, keepdim=True)
    order = sorted((i + j, i, j) for i in range(SIDE) for j in range(SIDE))
    atoms = torch.stack([torch.outer(waves[i], waves[j]) for _, i, j in order])[:, None]
    if channels > 1:
        mix = torch.tensor(OPPONENT, dtype=torch.float64)
        mix = (mix / torch.linalg.vector_norm(mix, dim=1, keepdim=True))[:, None, :, None, None]
        parts = [mix[0] * atoms, mix[1] * atoms[:CHROMA], mix[2] * atoms[:CHROMA]]
        atoms = torch.cat(parts)
    return atoms.float()
