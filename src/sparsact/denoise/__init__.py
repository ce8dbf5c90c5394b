"""Denoising by wavelet shrinkage, with thresholds that are chosen, given or learned."""

from sparsact.denoise.noise import estimate_sigma
from sparsact.denoise.shrinkage import denoise_wavelet

__all__ = ["denoise_wavelet", "estimate_sigma"]
