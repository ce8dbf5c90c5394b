"""Noise that is not additive and of one size: the models and their short names."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from sparsact._common.errors import InputError, unknown
from sparsact.denoise.multiplicative_noise import MultiplicativeNoise
from sparsact.denoise.poisson_noise import PoissonNoise
from sparsact.denoise.rician_noise import RicianNoise

NoiseModel = PoissonNoise | RicianNoise | MultiplicativeNoise
NoiseName = Literal["gaussian", "poisson", "poisson-gaussian", "multiplicative", "rician"]

MODELS: dict[str, Callable[[], NoiseModel | None]] = {
    "gaussian": lambda: None,
    "poisson": PoissonNoise,
    "poisson-gaussian": lambda: PoissonNoise(offset=None, read_noise=None),
    "multiplicative": MultiplicativeNoise,
    "rician": RicianNoise,
}


def noise_model(noise: "NoiseName | NoiseModel | str", sigma: object) -> NoiseModel | None:
    """The model of an argument ``noise=``; None is additive noise of one size.

    Raises:
        InputError: there is no such noise, or σ is set although the model has it.
    """
    if isinstance(noise, NoiseModel):
        model: NoiseModel | None = noise
    elif isinstance(noise, str):
        if noise not in MODELS:
            raise unknown("noise", noise, MODELS)
        model = MODELS[noise]()
    else:
        raise TypeError(f"noise= must be a name or a noise model, got {type(noise).__name__}")
    if model is None or sigma is None:
        return model
    if isinstance(model, PoissonNoise):
        raise InputError("sigma= does not go with Poisson noise; set gain= and read_noise= of it")
    if isinstance(sigma, Tensor) or not isinstance(sigma, (int, float)):
        raise InputError("sigma= must be a number with this noise, or None")
    return type(model)(float(sigma))
