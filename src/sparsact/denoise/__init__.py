"""Denoising by wavelet shrinkage, with thresholds that are chosen, given or learned."""

from sparsact.denoise.fit import fit_denoiser
from sparsact.denoise.layer import WaveletShrink
from sparsact.denoise.noise import estimate_sigma
from sparsact.denoise.shrinkage import denoise_wavelet

__all__ = ["WaveletShrink", "denoise_wavelet", "estimate_sigma", "fit_denoiser"]
