"""Take the blur out of a photograph: an operator of your own, and two penalties.

The camera is a module with an adjoint: it blurs and cuts the border off. `sparse_code` finds the
image that explains the noisy photograph and has a small total variation. Without a penalty (here
a tiny ridge), the noise is amplified. Each strength is chosen by the true image.

python examples/deblur_photograph.py [FOLDER]
"""

import sys
import tempfile
from pathlib import Path

import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_sample_image
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d

import sparsact as sa
from sparsact.coding import sparse_code

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="sparsact-"))
folder.mkdir(parents=True, exist_ok=True)
torch.set_num_threads(1)  # the image is small
torch.manual_seed(0)


class Camera(nn.Module):
    """A Gaussian blur that sees only the pixels whose whole neighbourhood is in the image."""

    def __init__(self, width: float, reach: int) -> None:
        super().__init__()
        line = torch.exp(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * width**2))
        kernel = line[:, None] * line
        self.register_buffer("kernel", (kernel / kernel.sum())[None, None])

    def forward(self, image: Tensor) -> Tensor:
        """The photograph (batch, 1, …) of an image."""
        return conv2d(image, self.kernel)

    def adjoint(self, photograph: Tensor) -> Tensor:
        """``⟨camera(u), x⟩ = ⟨u, camera.adjoint(x)⟩``."""
        return conv_transpose2d(photograph, self.kernel)


picture = torch.tensor(load_sample_image("flower.jpg")[170:282, 250:362] / 255.0).float().mean(-1)
camera = Camera(width=1.5, reach=6)
seen = camera(picture[None, None])
seen = seen + 0.02 * torch.randn(seen.shape)
inside = picture[6:-6, 6:-6]


def psnr(image: Tensor) -> float:
    """In dB, on the pixels that the camera sees."""
    return -10 * (image - inside).square().mean().log10().item()


def deblurred(penalty: sa.penalties.Penalty) -> Tensor:
    """The image that explains the photograph, without the border that the camera cuts off."""
    image = sparse_code(seen, camera, penalty, steps=300, tol=1e-3, start=start)
    return image[0, 0, 6:-6, 6:-6]


start = nn.functional.pad(seen, (6, 6, 6, 6), mode="replicate")
print(f"blurred and noisy:                  {psnr(seen[0, 0]):.2f} dB")
pictures = {"original": inside, "blurred and noisy": seen[0, 0]}
for name, penalty, strengths in (
    ("squares", lambda strength: sa.L2(strength), (3e-3, 1e-2, 3e-2)),
    (
        "total variation",
        lambda strength: sa.penalties.TotalVariation(strength, dim=(-2, -1), tol=1e-3),
        (1e-3, 2e-3, 4e-3),
    ),
):
    found = {strength: deblurred(penalty(strength)) for strength in strengths}
    best = max(strengths, key=lambda strength: psnr(found[strength]))
    print(f"{name + ',':<16} strength {best:<9g}: {psnr(found[best]):.2f} dB")
    pictures[name] = found[best]

figure = Figure(figsize=(12, 3.4), layout="constrained")
for axes, (title, image) in zip(figure.subplots(1, 4), pictures.items(), strict=True):
    axes.imshow(image, cmap="gray", vmin=0, vmax=1)
    axes.set_title(title, fontsize=10)
    axes.set_axis_off()
figure.savefig(folder / "deblur_photograph.png", dpi=100)
print(f"picture: {folder / 'deblur_photograph.png'}")
