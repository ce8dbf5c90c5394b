"""Compressed sensing: a photograph from a quarter as many measurements as it has pixels.

A camera with one pixel measures a scene through patterns of light and dark: each number is the sum
of all pixels, half of them with a minus sign. Too few patterns leave the image undetermined. Of all
images that fit, sparsity chooses: few coefficients of a cosine transform (L1), or few jumps between
neighbours (TotalVariation). Filling in zeros for what was not measured is the comparison.

python examples/compressed_sensing.py [FOLDER]
"""

import sys
import tempfile
from pathlib import Path

import torch
from matplotlib.figure import Figure
from scipy.fft import dct
from scipy.linalg import hadamard
from sklearn.datasets import load_sample_image
from torch import Tensor, nn

import sparsact as sa
from sparsact.coding import sparse_code

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="sparsact-"))
folder.mkdir(parents=True, exist_ok=True)
torch.set_num_threads(1)  # the tensors are small
torch.manual_seed(0)

SIZE = 64
photograph = torch.tensor(load_sample_image("china.jpg").mean(2) / 255).float()
image = nn.functional.interpolate(photograph[None, None, :384, 128:512], (SIZE, SIZE), mode="area")
image = image[0]  # (1, height, width): a batch of one
cosines = torch.tensor(dct(torch.eye(SIZE).numpy(), axis=0, norm="ortho"))
patterns = torch.tensor(hadamard(SIZE) / SIZE**0.5).float()
flips = torch.rand(SIZE, SIZE).sub(0.5).sign()
order = torch.randperm(SIZE * SIZE)


class Camera(nn.Module):
    """From coefficients (batch, height, width) of an image to measurements (batch, number)."""

    def __init__(self, number: int, basis: Tensor) -> None:
        super().__init__()
        self.chosen, self.basis = order[:number], basis

    def image(self, codes: Tensor) -> Tensor:
        """The image of its coefficients."""
        return self.basis.T @ codes @ self.basis

    def forward(self, codes: Tensor) -> Tensor:
        """Flip the signs of random pixels, then take some of all sums."""
        sums = patterns @ (flips * self.image(codes)) @ patterns
        return sums.flatten(1)[:, self.chosen]

    def adjoint(self, measured: Tensor) -> Tensor:
        """The same in reverse; all matrices are orthonormal."""
        sums = measured.new_zeros(len(measured), SIZE * SIZE).index_copy(1, self.chosen, measured)
        pixels = flips * (patterns @ sums.view(-1, SIZE, SIZE) @ patterns)
        return self.basis @ pixels @ self.basis.T


def quality(result: Tensor) -> float:
    """The peak signal-to-noise ratio in dB."""
    return -10 * (result - image).square().mean().log10().item()


pictures = {}
for share in (0.1, 0.25, 0.5):
    number = int(share * SIZE * SIZE)
    plain, waves = Camera(number, torch.eye(SIZE)), Camera(number, cosines)
    measured = plain(image)
    results = {"zeros filled in": plain.adjoint(measured)}
    codes = sparse_code(measured, waves, sa.L1(0.01), steps=500, tol=1e-4)
    results["L1 of cosines"] = waves.image(codes)
    jumps = sa.TotalVariation(0.01, dim=(-2, -1), tol=1e-4)
    results["total variation"] = sparse_code(measured, plain, jumps, steps=300, tol=1e-3)
    line = ", ".join(f"{name} {quality(result):.1f} dB" for name, result in results.items())
    print(f"{share:4.0%} of the measurements: {line}")
    pictures[share] = results

figure = Figure(figsize=(9, 3), layout="constrained")
shown = {"photograph": image} | pictures[0.25]
for column, (title, picture) in enumerate(shown.items()):
    axes = figure.add_subplot(1, 4, column + 1)
    axes.imshow(picture[0], cmap="gray", vmin=0, vmax=1)
    axes.set_axis_off()
    axes.set_title(title if column == 0 else f"{title}, {quality(picture):.1f} dB", fontsize=10)
figure.savefig(folder / "compressed_sensing.png", dpi=100)
print(f"picture: {folder / 'compressed_sensing.png'}")
