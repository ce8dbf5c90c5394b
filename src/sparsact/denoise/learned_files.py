"""The numbers of a file through the trained network."""

from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.denoise.fine_tuning import fine_tune_denoiser
from sparsact.denoise.learned_denoising import denoise_learned
from sparsact.denoise.noise_models import NoiseModel, NoiseName

WAVELET_OPTIONS = (
    "wavelet", "levels", "threshold", "shrink", "cycle_spins", "ycbcr", "border", "sigma_map",
    "tile",
)  # fmt: skip


def denoise_numbers(
    x: Tensor,
    dims: int,
    channel_dim: int | None,
    mask: Tensor | None,
    sigma: object,
    noise: NoiseName | NoiseModel,
    fine_tune: bool,
) -> Tensor:
    """Denoise the images of a file, after training on them if `fine_tune`.

    Raises:
        InputError: they are not images, or an option is for wavelets.
    """
    if dims != 2:
        raise InputError(f"method=learned is for images, and these data have dims={dims}")
    if sigma is not None and not isinstance(sigma, (int, float)):
        raise InputError(f"sigma={sigma} is for method=wavelet")
    network = None
    if fine_tune:
        network = fine_tune_denoiser(
            x, sigma=sigma, channel_dim=channel_dim, noise=noise, mask=mask
        )
    return denoise_learned(
        x, sigma=sigma, channel_dim=channel_dim, noise=noise, mask=mask, network=network
    )
