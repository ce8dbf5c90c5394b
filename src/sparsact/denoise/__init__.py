"""Denoise by wavelet shrinkage, or images by a trained network.

Thresholds of wavelets come from a rule, from the user, or are learned.
"""

from sparsact.denoise.denoiser_fitting import fit_denoiser
from sparsact.denoise.fine_tuning import fine_tune_denoiser
from sparsact.denoise.learned_denoising import denoise_learned
from sparsact.denoise.multiplicative_noise import MultiplicativeNoise
from sparsact.denoise.noise_estimate import estimate_sigma
from sparsact.denoise.poisson_noise import PoissonNoise
from sparsact.denoise.rician_noise import RicianNoise
from sparsact.denoise.tiles import denoise_tiles
from sparsact.denoise.wavelet_layer import WaveletShrink
from sparsact.denoise.wavelet_shrinkage import denoise_wavelet

__all__ = [
    "MultiplicativeNoise",
    "PoissonNoise",
    "RicianNoise",
    "WaveletShrink",
    "denoise_learned",
    "denoise_tiles",
    "denoise_wavelet",
    "estimate_sigma",
    "fine_tune_denoiser",
    "fit_denoiser",
]
