"""Noise that multiplies the signal, such as speckle."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.denoise.stabilised import Stabilised
from sparsact.thresholds.arguments import check_positive, values_can_be_read


@dataclass(frozen=True)
class MultiplicativeNoise:
    """``x = signal·n`` with noise n of mean 1: the logarithm of `x` is denoised.

    The result is scaled so that each block keeps its mean, because the mean of a logarithm is
    below the logarithm of the mean. Zeros have no noise, and are returned as they came.

    Args:
        sigma: standard deviation of ``log n``, for small noise that of n; None estimates it.

    Raises:
        InputError: `sigma` is not positive.

    Example:
        >>> from sparsact.denoise import denoise_wavelet
        >>> noise = 0.2 * torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
        >>> clean = denoise_wavelet(5 * noise.exp(), noise=MultiplicativeNoise(sigma=0.2))
        >>> bool((clean - 5).abs().mean() < 0.3)
        True
    """

    sigma: float | None = None

    def __post_init__(self) -> None:
        if self.sigma is not None:
            check_positive(self.sigma, "sigma")

    def stabilise(self, x: Tensor, missing: Tensor | None, ndim: int) -> Stabilised:
        """The logarithm of blocks, and the way back."""
        absent = x == 0 if missing is None else missing | (x == 0)
        if values_can_be_read(x) and bool(((x < 0) & ~absent).any()):
            raise InputError(
                f"multiplicative noise needs data that are not negative, got {float(x.min()):g}"
            )
        dims = tuple(range(-ndim, 0))
        present = torch.where(absent, 0.0, x)

        def inverse(values: Tensor) -> Tensor:
            signal = torch.where(absent, 0.0, values.exp())
            total = signal.sum(dims, keepdim=True)
            return signal * (present.sum(dims, keepdim=True) / torch.where(total > 0, total, 1.0))

        logs = torch.where(absent, 0.0, torch.where(absent, 1.0, x).log())
        return Stabilised(logs, self.sigma, inverse, absent)
