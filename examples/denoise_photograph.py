"""Remove the noise from a photograph, with thresholds chosen by a rule or learned.

Thresholds are learned from another photograph, or from the noisy one alone, without any clean
image.

python examples/denoise_photograph.py [FOLDER]
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_sample_images

import sparsact as sa
from sparsact.denoise import fit_denoiser
from sparsact.denoise.before_after_picture import Comparison
from sparsact.denoise.psnr_ssim import quality
from sparsact.denoise.removed_noise import removed_noise

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="sparsact-"))
folder.mkdir(parents=True, exist_ok=True)

SIGMA = 25 / 255
temple, flower = (  # (3, H, W) in [0, 1]
    torch.from_numpy(image[60:380, 160:480] / np.float32(255)).movedim(-1, 0)
    for image in load_sample_images().images
)
noisy = flower + SIGMA * torch.randn(flower.shape, generator=torch.Generator().manual_seed(0))


def report(name: str, image: torch.Tensor) -> str:
    text = str(quality(image, flower, 2, 0, 1.0))
    print(f"{name:36} {text}")
    return text


before = report("noisy", noisy)
report("threshold on raw pixels", sa.functional.softshrink(noisy, SIGMA))
report("bayes", sa.denoise_wavelet(noisy))
report("bayes, all shifts", sa.denoise_wavelet(noisy, cycle_spins="all"))
report(
    "bayes, all shifts, in YCbCr",
    sa.denoise_wavelet(noisy, cycle_spins="all", channel_dim=0, ycbcr=True),
)
model = fit_denoiser(temple, SIGMA, steps=25)  # trained without the flower
with torch.no_grad():
    learned = model(noisy)
after = report("learned on the other photo", learned)
blind = fit_denoiser(noisy, clean=False, steps=25)  # no clean image at all, and no σ
with torch.no_grad():
    report("learned on the noisy photo itself", blind(noisy))

titles = (f"noisy: {before}", f"learned thresholds: {after}")
removed = removed_noise(noisy - learned, SIGMA, ndim=2, estimated=False)
picture = Comparison(noisy.numpy(), learned.numpy(), titles, 2, channel_dim=0, removed=removed)
picture.save(folder / "denoise_photograph.png")
print(f"picture: {folder / 'denoise_photograph.png'}")
