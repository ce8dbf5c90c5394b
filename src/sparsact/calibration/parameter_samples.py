"""Samples of a model's parameters, which a plan uses to recognise its model."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.calibration.linear_layers import is_linear, weight_t
from sparsact.calibration.offloaded import present

_COUNT = 32  # values of each parameter
_TOLERANCE = 0.005  # relative: a model in bfloat16 is the same model


def weight_sample(linear: nn.Module) -> Tensor:
    """Some weights of a layer, evenly spread."""
    with present(linear):
        return _sample(weight_t(linear).t())


def other_samples(model: nn.Module, readers: Iterable[str]) -> dict[str, Tensor]:
    """Samples of all parameters that are not the weights of these layers."""
    weights = {f"{reader}.weight" for reader in readers}
    return {
        name: _parameter_sample(model, name)
        for name, _ in model.named_parameters()
        if name not in weights
    }


def check_layers(
    model: nn.Module, samples: Mapping[str, Tensor], inputs: Mapping[str, int]
) -> None:
    """Raise InputError unless the layers of these names have these weights and inputs."""
    for name, sample in samples.items():
        try:
            linear = model.get_submodule(name)
        except AttributeError as error:
            raise InputError(f"the plan is for another model: there is no {name!r}") from error
        if not is_linear(linear):
            raise InputError(
                f"the plan is for a model of dense linear layers, and {name!r} is a "
                f"{type(linear).__name__}: is this model sparse already?"
            )
        fits = weight_t(linear).shape[0] == inputs[name]
        if not fits or not _is_same(weight_sample(linear), sample):
            raise InputError(f"the plan is for another model: {name!r} has other weights")


def check_others(model: nn.Module, samples: Mapping[str, Tensor]) -> None:
    """Raise InputError unless the parameters of these names have these values."""
    for name, sample in samples.items():
        try:
            own = _parameter_sample(model, name)
        except AttributeError as error:
            raise InputError(f"the plan is for another model: there is no {name!r}") from error
        if not _is_same(own, sample):
            raise InputError(f"the plan is for another model: {name!r} has other values")


def _parameter_sample(model: nn.Module, name: str) -> Tensor:
    with present(model.get_submodule(name.rpartition(".")[0])):
        return _sample(model.get_parameter(name))


def _sample(values: Tensor) -> Tensor:
    flat = values.detach().flatten()
    return flat[:: max(1, len(flat) // _COUNT)][:_COUNT].float().cpu().clone()


def _is_same(values: Tensor, sample: Tensor) -> bool:
    atol = _TOLERANCE * float(sample.abs().mean()) if len(sample) else 0.0
    return values.shape == sample.shape and torch.allclose(
        values, sample, rtol=_TOLERANCE, atol=atol
    )
