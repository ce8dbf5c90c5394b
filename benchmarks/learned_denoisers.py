"""The parts ``learned`` and ``fine_tuning`` of ``denoise.py``.

``learned`` compares all methods on six pictures of scikit-image with 512×512 pixels and on one of
them in colour; the network has not seen any of them. Every method is told σ. `fit_denoiser` learns
its thresholds on other pictures of scikit-image. BM3D takes part if the package ``bm3d`` can be
imported; its licence is for research only, so it is no dependency of this project:

    pip install --no-deps --target ENVIRONMENT bm3d bm4d
    PYTHONPATH=ENVIRONMENT python benchmarks/denoise.py learned

deepinv's networks need weights from a model hub, and are left out.

``fine_tuning`` counts photons of a cell under a microscope and of galaxies, no photographs, and
trains on the counts alone.
"""

import importlib.util
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skimage import color, data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from skimage.restoration import denoise_nl_means

from harness import Run
from sparsact.denoise import denoise_learned, denoise_wavelet, fine_tune_denoiser, fit_denoiser

PICTURES = ("camera", "astronaut", "moon", "brick", "grass", "gravel")
TRAINING = ("chelsea", "rocket", "coins", "cell", "coffee")
SIGMAS = (15, 25, 50)
PEAKS = (5, 20, 100)
Array = NDArray[Any]
Method = Callable[[Array, float], Array]


def grey(picture: Array) -> Array:
    return (color.rgb2gray(picture) if picture.ndim == 3 else picture / 255).astype(np.float32)


def with_fitted_thresholds(run: Run, sigma: float) -> Method:
    side = run.size(None, 64)
    pictures = [torch.from_numpy(grey(getattr(data, name)()[:side, :side])) for name in TRAINING]
    model = fit_denoiser(pictures, sigma, steps=run.size(100, 2), crop=run.size(96, 48))

    def denoise(noisy: Array, sigma: float) -> Array:
        x = torch.from_numpy(noisy)
        x = x.movedim(-1, 0) if x.ndim == 3 else x
        with torch.no_grad():
            clean = model(x, sigma)
        return (clean.movedim(0, -1) if x.ndim == 3 else clean).numpy()

    return denoise


def nl_means(noisy: Array, sigma: float) -> Array:
    """As in scikit-image's gallery, in its fast mode."""
    channel = -1 if noisy.ndim == 3 else None
    return denoise_nl_means(noisy, 5, 6, 0.8 * sigma, sigma=sigma, channel_axis=channel)


def wavelet(noisy: Array, sigma: float) -> Array:
    colour = {"channel_dim": -1, "ycbcr": True} if noisy.ndim == 3 else {}
    return denoise_wavelet(noisy, sigma=sigma, cycle_spins="all", **colour)


def learned(noisy: Array, sigma: float) -> Array:
    return denoise_learned(noisy, sigma=sigma, channel_dim=-1 if noisy.ndim == 3 else None)


def learned_by_channel(noisy: Array, sigma: float) -> Array:
    return np.moveaxis(denoise_learned(np.moveaxis(noisy, -1, 0), sigma=sigma), 0, -1)


def bm3d(noisy: Array, sigma: float) -> Array:
    import bm3d

    return (bm3d.bm3d_rgb if noisy.ndim == 3 else bm3d.bm3d)(noisy, sigma)


def methods(run: Run, sigma: float, is_colour: bool) -> dict[str, Method]:
    found: dict[str, Method] = {
        "wavelets, all shifts": wavelet,
        "fit_denoiser": with_fitted_thresholds(run, sigma),
        "scikit-image NL-means": nl_means,
    }
    if importlib.util.find_spec("bm3d"):
        found["BM3D"] = bm3d
    else:
        print("BM3D is left out: there is no package bm3d")
    if is_colour:
        found["denoise_learned, channel by channel"] = learned_by_channel
    return found | {"denoise_learned": learned}


def measure(method: Method, clean: list[Array], sigma: float) -> dict[str, float]:
    """Mean PSNR and SSIM, and the median time of a picture."""
    psnrs, ssims, seconds = [], [], []
    for picture in [clean[0][:64, :64], *clean]:  # the first is to warm up
        noise = np.random.default_rng(0).standard_normal(picture.shape)
        noisy = (picture + sigma * noise).astype(np.float32)
        start = time.perf_counter()
        result = np.asarray(method(noisy, sigma), np.float64)
        seconds.append(time.perf_counter() - start)
        psnrs.append(peak_signal_noise_ratio(picture, result, data_range=1))
        channel = -1 if picture.ndim == 3 else None
        ssims.append(structural_similarity(picture, result, data_range=1, channel_axis=channel))
    return {
        "PSNR in dB": round(statistics.mean(psnrs[1:]), 2),
        "SSIM": round(statistics.mean(ssims[1:]), 3),
        "seconds": round(statistics.median(seconds[1:]), 3),
    }


def compare(run: Run) -> None:
    """Compare the methods on grey pictures, and on one in colour."""
    side, names = run.size(512, 64), run.size(PICTURES, PICTURES[:1])
    greys = [grey(getattr(data, name)())[:side, :side].astype(float) for name in names]
    colours = [data.astronaut()[:side, :side] / 255]
    rows = []
    for kind, clean in (("grey", greys), ("colour", colours)):
        for sigma in run.size(SIGMAS, SIGMAS[:1]):
            for name, method in methods(run, sigma / 255, kind == "colour").items():
                scores = measure(method, clean, sigma / 255)
                rows.append({"pictures": kind, "sigma": sigma, "method": name} | scores)
                print(rows[-1], flush=True)
    run.write("denoise_learned", {"methods": rows})


def fine_tuning(run: Run) -> None:
    """Train further on the photon counts of a cell and of galaxies."""
    side = run.size(512, 64)
    rows = []
    for name in run.size(("cell", "hubble_deep_field"), ("cell",)):
        clean = grey(getattr(data, name)())[:side, :side].astype(float)
        clean = clean / clean.max()
        for peak in run.size(PEAKS, PEAKS[:1]):
            counts = np.random.default_rng(0).poisson(clean * peak).astype(float)
            tuned = fine_tune_denoiser(counts, noise="poisson", steps=run.size(200, 2))
            learned = partial(denoise_learned, counts, noise="poisson")
            results = {
                "counts": counts,
                "wavelets": denoise_wavelet(counts, noise="poisson", cycle_spins="all"),
                "denoise_learned": learned(),
                "fine-tuned": learned(network=tuned),
            }
            scores = {
                method: round(float(peak_signal_noise_ratio(clean, result / peak, data_range=1)), 2)
                for method, result in results.items()
            }
            rows.append({"picture": name, "peak": peak} | scores)
            print(rows[-1], flush=True)
    run.write("denoise_fine_tuning", {"psnr_db": rows})
