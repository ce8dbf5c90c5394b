"""Remove the noise from an electrocardiogram with three rules for the threshold.

The first lines printed show why the transform is thresholded and not the signal: a threshold on raw
samples removes small samples, whether they are noise or signal.

python examples/denoise_ecg.py [FOLDER]
"""

import sys
import tempfile
from pathlib import Path

import pywt
import torch

import sparsact as sa
from sparsact.denoise import estimate_sigma
from sparsact.denoise.before_after_picture import Comparison
from sparsact.denoise.psnr_ssim import psnr
from sparsact.denoise.removed_noise import removed_noise

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="sparsact-"))
folder.mkdir(parents=True, exist_ok=True)

clean = torch.from_numpy(pywt.data.ecg()).double()  # 1024 samples of a real heart
peak = (clean.max() - clean.min()).item()
sigma = 25 / 255 * peak
noisy = clean + sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
print(f"noise {sigma:.1f}, estimated from the noisy signal {estimate_sigma(noisy, dims=1):.1f}")
print(f"noisy                       {psnr(noisy, clean, peak):.2f} dB")

# A threshold on raw samples removes small samples, whether they are noise or signal.
raw = sa.functional.softshrink(noisy, sigma)
print(f"threshold on raw samples    {psnr(raw, clean, peak):.2f} dB")

results = {}
for threshold in ("visu", "bayes", "sure"):
    once = sa.denoise_wavelet(noisy, "sym4", 5, threshold, dims=1)
    every = sa.denoise_wavelet(noisy, "sym4", 5, threshold, cycle_spins="all", dims=1)
    results[threshold] = every
    print(
        f"{threshold:5} in a wavelet basis    {psnr(once, clean, peak):.2f} dB, "
        f"over all shifts {psnr(every, clean, peak):.2f} dB"
    )

quality = {threshold: psnr(result, clean, peak) for threshold, result in results.items()}
best = max(quality, key=quality.__getitem__)
titles = (f"noisy: {psnr(noisy, clean, peak):.2f} dB", f"{best}: {quality[best]:.2f} dB")
removed = removed_noise(noisy - results[best], sigma, ndim=1, estimated=False)
picture = Comparison(noisy.numpy(), results[best].numpy(), titles, dims=1, removed=removed)
picture.save(folder / "denoise_ecg.png")
print(f"picture: {folder / 'denoise_ecg.png'}")
