"""Wavelet denoising compared with scikit-image: PSNR (``quality``) and time (``speed``).

The best shifts of a decimated transform depend on where a signal begins. ``starts`` therefore lets
the ECG begin 0 to 7 samples later, to show that the gain does not depend on the beginning.
``photon`` counts photons and compares with the Anscombe transform made by hand. ``memory`` runs the
command on an hour of stereo and on an image of 100 megapixels, in files that it makes. ``learned``
and ``fine_tuning`` are described in ``learned_denoisers.py``.

The noise is Gaussian and not clipped; images are in [0, 1]; both libraries get float32, estimate σ
and use db2. The learned thresholds are trained on scikit-image's other pictures.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pywt
import soundfile
import tifffile
import torch
from numpy.typing import NDArray
from skimage import color, data
from skimage.restoration import cycle_spin, denoise_wavelet

from harness import Run, main
from learned_denoisers import compare, fine_tuning
from sparsact.denoise import denoise_wavelet as ours
from sparsact.denoise import fit_denoiser

SEEDS = 3
SIGMAS = (15, 25, 50)
TRAINING = ("chelsea", "rocket", "brick", "grass", "gravel", "coins", "moon", "cell", "cat")
Array = NDArray[np.float32]

theirs = partial(denoise_wavelet, wavelet="db2", rescale_sigma=True)


def targets(run: Run) -> dict[str, Array]:
    names = run.size(("camera", "astronaut", "coffee"), ("camera", "astronaut"))
    side = run.size(None, 48)
    pictures = {name: getattr(data, name)()[:side, :side] / 255 for name in names}
    ecg = pywt.data.ecg()[: run.size(None, 128)].astype(float)
    pictures["ecg"] = (ecg - ecg.min()) / np.ptp(ecg)
    return {name: picture.astype(np.float32) for name, picture in pictures.items()}


def training(run: Run) -> list[torch.Tensor]:
    side = run.size(None, 48)
    pictures = [getattr(data, name)()[:side, :side] for name in run.size(TRAINING, TRAINING[:2])]
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


def quality(run: Run) -> None:
    rows = []
    pictures, training_pictures = targets(run), training(run)
    seeds = run.size(SEEDS, 1)
    for sigma in run.size(SIGMAS, SIGMAS[:1]):
        learned = fit_denoiser(training_pictures, sigma / 255, steps=run.size(80, 2))
        for name, clean in pictures.items():
            runs = [scores(clean, sigma, seed, learned) for seed in range(seeds)]
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
    least_gain = {
        name: round(min(row[a] - row[b] for row in rows if a in row), 3)
        for name, (a, b) in gains.items()
    }
    results = {"psnr_db": rows, "least_gain_db": least_gain, "seeds": seeds}
    run.write("denoise_quality", results)


def starts(run: Run) -> None:
    """Measure the gain of all spins over scikit-image's 4 spins for 8 beginnings of the ECG."""
    ecg = targets(run)["ecg"]
    seeds = run.size(10, 1)
    gains: dict[str, list[float]] = {}
    for sigma in run.size(SIGMAS, SIGMAS[:1]):
        for start in range(run.size(8, 2)):
            clean = ecg[start : len(ecg) - 8 + start]
            gain = 0.0
            for seed in range(seeds):
                noisy = add_noise(clean, sigma / 255, seed)
                result = ours(torch.from_numpy(noisy), cycle_spins="all", dims=1).numpy()
                gain += (psnr(result, clean) - psnr(spun(noisy, {}), clean)) / seeds
            gains.setdefault(f"sigma {sigma}", []).append(round(gain, 3))
    means = {name: round(statistics.mean(values), 3) for name, values in gains.items()}
    run.write("denoise_starts", {"gain_db by start": gains, "mean": means})


def by_hand(counts: Array) -> Array:
    """Denoise between the Anscombe transform and its algebraic inverse."""
    even = ours(2 * np.sqrt(counts + 3 / 8), sigma=1.0, cycle_spins="all")
    return np.square(even / 2) - 1 / 8


def photon(run: Run) -> None:
    clean = targets(run)["camera"].astype(float)
    results = {}
    for peak in run.size((5, 20, 100), (20,)):
        counts = np.random.default_rng(0).poisson(clean * peak).astype(float)
        denoised = {
            "noisy": counts,
            "as Gaussian noise": ours(counts, cycle_spins="all"),
            "Anscombe transform by hand": by_hand(counts),
            'noise="poisson", gain estimated': ours(counts, cycle_spins="all", noise="poisson"),
        }
        row = {name: round(psnr(image / peak, clean), 2) for name, image in denoised.items()}
        results[f"peak {peak}"] = row
    run.write("denoise_photon", {"psnr_db": results})


def speed(run: Run) -> None:
    camera = targets(run)["camera"]
    batch = np.stack([add_noise(camera, 25 / 255, seed) for seed in range(run.size(16, 2))])
    x = torch.from_numpy(batch)
    wide = batch[:2].astype(np.float64)  # in float32 the variances are rounded differently
    expected = np.stack([theirs(image, wavelet_levels=3) for image in wide])
    gap = np.abs(ours(x[:2].double(), levels=3).numpy() - expected).max()
    assert gap < 1e-4, gap
    one = run.alternate(
        {
            "ours": lambda: ours(x[0], cycle_spins="all"),
            "scikit-image": lambda: spun(batch[0], {}),
        },
        repeats=15,
    )
    many = run.alternate(
        {"ours": lambda: ours(x), "scikit-image": lambda: [theirs(image) for image in batch]},
        repeats=15,
    )
    run.write(
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


def memory(run: Run) -> None:
    """The largest resident memory and the time of ``sparsact denoise``, from file to file."""
    seconds, side = run.size((3600, 10000), (4, 400))
    tile = run.size([], ["--tile", "128"])
    results = {}
    with tempfile.TemporaryDirectory(dir=run.size(Path.cwd(), None)) as folder:
        for name, make in {
            f"{seconds} s of stereo, 44.1 kHz, WAV": partial(make_sound, seconds=seconds),
            f"image of {side}×{side}, 16 bits, TIFF": partial(make_image, side=side),
        }.items():
            suffix = ".wav" if "WAV" in name else ".tif"
            source, target = Path(folder) / f"in{suffix}", Path(folder) / f"out{suffix}"
            make(source)
            command = [sys.executable, "-m", "sparsact.cli", "denoise", source, target, *tile]
            start = time.perf_counter()
            child = subprocess.Popen(command, env={**os.environ, "TMPDIR": folder})
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            assert child.returncode == 0
            assert target.stat().st_size >= 0.9 * source.stat().st_size
            took = time.perf_counter() - start
            results[name] = {"MB": usage.ru_maxrss / 1024, "seconds": took}
            if suffix == ".wav":
                results[name]["times real time"] = seconds / took
    run.write("denoise_memory", results)


def make_sound(path: Path, seconds: int) -> None:
    """A chord with white noise, written second by second."""
    time_ = np.arange(44100)[:, None] / 44100
    chord = 0.2 * np.sin(2 * np.pi * np.array([220.0, 330.0]) * time_)
    with soundfile.SoundFile(path, "w", 44100, 2, "PCM_16") as file:
        for second in range(seconds):
            noise = np.random.default_rng(second).standard_normal(chord.shape)
            file.write(chord + 0.02 * noise)


def make_image(path: Path, side: int) -> None:
    """Waves with noise, in strips."""
    pixels = tifffile.memmap(path, shape=(side, side), dtype=np.uint16)
    across = np.sin(np.arange(side) / 50)
    for row in range(side):
        noise = np.random.default_rng(row).standard_normal(side)
        pixels[row] = 30000 + 9000 * across * np.sin(row / 50) + 2000 * noise
    pixels.flush()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    parts: dict[str, Callable[[Run], None]] = {
        "quality": quality,
        "starts": starts,
        "photon": photon,
        "speed": speed,
        "memory": memory,
        "learned": compare,
        "fine_tuning": fine_tuning,
    }
    main(__doc__, parts, threads=2)
