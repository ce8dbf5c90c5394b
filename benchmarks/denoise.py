"""Wavelet denoising beside scikit-image: PSNR (``quality``) and time (``speed``).

Which of a decimated transform's shifts suit a signal depends on where the signal begins: ``starts``
has the ECG begin 0 to 7 samples later, so that a gain does not owe to where it begins.

Noise is unclipped and Gaussian, images are in [0, 1], both sides get float32 and estimate σ
themselves; db2 everywhere. The learned thresholds are trained on scikit-image's other pictures.
"""

import statistics
import sys
import warnings
from functools import partial

import numpy as np
import pywt
import torch
from numpy.typing import NDArray
from skimage import color, data
from skimage.restoration import cycle_spin, denoise_wavelet

from harness import alternate, write
from sparsact.denoise import denoise_wavelet as ours
from sparsact.denoise import fit_denoiser

SEEDS = 3
SIGMAS = (15, 25, 50)
TRAINING = ("chelsea", "rocket", "brick", "grass", "gravel", "coins", "moon", "cell", "cat")
Array = NDArray[np.float32]

theirs = partial(denoise_wavelet, wavelet="db2", rescale_sigma=True)


def targets() -> dict[str, Array]:
    pictures = {name: getattr(data, name)() / 255 for name in ("camera", "astronaut", "coffee")}
    ecg = pywt.data.ecg().astype(float)
    pictures["ecg"] = (ecg - ecg.min()) / np.ptp(ecg)
    return {name: picture.astype(np.float32) for name, picture in pictures.items()}


def training() -> list[torch.Tensor]:
    pictures = [getattr(data, name)() for name in TRAINING]
    grey = [color.rgb2gray(p) if p.ndim == 3 else p / 255 for p in pictures]
    return [torch.from_numpy(picture.astype(np.float32)) for picture in grey]


def psnr(x: Array, clean: Array) -> float:
    return float(-10 * np.log10(np.square(np.asarray(x, float) - clean).mean()))


def add_noise(clean: Array, sigma: float, seed: int) -> Array:
    noise = np.random.default_rng(seed).standard_normal(clean.shape)
    return (clean + sigma * noise).astype(np.float32)


def spun(noisy: Array, channel: dict[str, int]) -> Array:
    return cycle_spin(noisy, theirs, max_shifts=3, func_kw=channel, workers=1, **channel)


def scores(clean: Array, sigma: int, seed: int, learned: torch.nn.Module) -> dict[str, float]:
    noisy = add_noise(clean, sigma / 255, seed)
    x = torch.from_numpy(noisy)
    channel = {"channel_axis": -1} if clean.ndim == 3 else {}
    options = {"dims": min(clean.ndim, 2), "channel_dim": -1 if channel else None}
    results = {
        "noisy": noisy,
        "scikit-image bayes": theirs(noisy, **channel),
        "bayes": ours(x, **options).numpy(),
        "scikit-image bayes, 4 spins per dim": spun(noisy, channel),
        "bayes, all spins": ours(x, cycle_spins="all", **options).numpy(),
        "sure, all spins": ours(x, threshold="sure", cycle_spins="all", **options).numpy(),
    }
    if options["dims"] == 2:
        stacked = x.movedim(-1, 0) if channel else x
        with torch.no_grad():
            result = learned(stacked)
        results["learned, all spins"] = (result.movedim(0, -1) if channel else result).numpy()
    return {name: psnr(result, clean) for name, result in results.items()}


def quality() -> None:
    rows = []
    pictures, lessons = targets(), training()
    for sigma in SIGMAS:
        learned = fit_denoiser(lessons, sigma / 255, steps=80)
        for name, clean in pictures.items():
            runs = [scores(clean, sigma, seed, learned) for seed in range(SEEDS)]
            row = {key: round(statistics.mean(r[key] for r in runs), 3) for key in runs[0]}
            rows.append({"target": name, "sigma": sigma} | row)
            print(rows[-1], flush=True)
    gains = {
        "bayes − scikit-image bayes": ("bayes", "scikit-image bayes"),
        "bayes, all spins − scikit-image's 4 spins per dim": (
            "bayes, all spins",
            "scikit-image bayes, 4 spins per dim",
        ),
        "learned − bayes, both all spins": ("learned, all spins", "bayes, all spins"),
        "learned, all spins − bayes": ("learned, all spins", "bayes"),
    }
    least = {
        name: round(min(row[a] - row[b] for row in rows if a in row), 3)
        for name, (a, b) in gains.items()
    }
    write("denoise_quality", {"psnr_db": rows, "least_gain_db": least, "seeds": SEEDS})


def starts() -> None:
    """All spins less scikit-image's 4 spins, on an ECG that begins a little later each time."""
    ecg = targets()["ecg"]
    gains: dict[str, list[float]] = {}
    for sigma in SIGMAS:
        for start in range(8):
            clean = ecg[start : len(ecg) - 8 + start]
            gain = 0.0
            for seed in range(10):
                noisy = add_noise(clean, sigma / 255, seed)
                result = ours(torch.from_numpy(noisy), cycle_spins="all", dims=1).numpy()
                gain += (psnr(result, clean) - psnr(spun(noisy, {}), clean)) / 10
            gains.setdefault(f"sigma {sigma}", []).append(round(gain, 3))
    means = {name: round(statistics.mean(found), 3) for name, found in gains.items()}
    write("denoise_starts", {"gain_db by start": gains, "mean": means})


def speed() -> None:
    camera = targets()["camera"]
    batch = np.stack([add_noise(camera, 25 / 255, seed) for seed in range(16)])
    x = torch.from_numpy(batch)
    wide = batch[:2].astype(np.float64)  # in float32 they differ by rounding in Bayes' variance
    gap = np.abs(ours(x[:2].double()).numpy() - np.stack([theirs(image) for image in wide])).max()
    assert gap < 1e-4, gap
    one = alternate(
        {
            "ours": lambda: ours(x[0], cycle_spins="all"),
            "scikit-image": lambda: spun(batch[0], {}),
        },
        repeats=15,
    )
    many = alternate(
        {"ours": lambda: ours(x), "scikit-image": lambda: [theirs(image) for image in batch]},
        repeats=15,
    )
    write(
        "denoise_speed",
        {
            "ms": {"all spins of camera / 4 spins per dim": one, "16 images of 512×512": many},
            "ratio": {
                "scikit-image's 4 spins per dim / our all spins": one["scikit-image"] / one["ours"],
                "our images per second / scikit-image's": many["scikit-image"] / many["ours"],
            },
            "largest_difference": float(gap),
        },
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(2)
    {"quality": quality, "speed": speed, "starts": starts}[sys.argv[1]]()
