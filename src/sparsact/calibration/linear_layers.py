"""The linear layers of a model, and whether their weights can be read."""

import inspect
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparsact._common.errors import InputError
from sparsact.calibration.model_forward import output_head


def weight_t(linear: nn.Module) -> Tensor:
    """The weight of a linear layer as (in, out), a view."""
    weight: Tensor = linear.weight.detach()  # type: ignore[operator]
    return weight if is_conv1d(linear) else weight.t()


def is_linear(module: nn.Module) -> bool:
    """Whether a module computes what ``nn.Linear`` does, or is GPT-2's ``Conv1D``."""
    if not isinstance(module, nn.Linear):
        return is_conv1d(module)
    return type(module).forward is nn.Linear.forward or _computes_the_same(module)


def _computes_the_same(linear: nn.Linear) -> bool:
    """Whether a layer with its own forward, such as Falcon's, gives what ``nn.Linear`` gives.

    It is run once, on two rows, and the outputs are compared.
    """
    if linear not in _SAME:
        _SAME[linear] = _gives_the_same(linear)
    return _SAME[linear]


_SAME: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def _gives_the_same(linear: nn.Linear) -> bool:
    weight, forward = linear.weight.detach(), type(linear).forward
    names = {name for name, _ in [*linear.named_parameters(), *linear.named_buffers()]}
    takes_one = len(inspect.signature(forward).parameters) == 2  # self, too
    if names - {"weight", "bias"} or not takes_one or weight.is_meta or weight.ndim != 2:
        return False
    x = torch.linspace(-1, 3, 2 * weight.shape[1], device=weight.device).view(2, -1)
    x = x.to(weight.dtype)
    with torch.no_grad():
        expected = F.linear(x, weight, linear.bias)
        try:
            output = forward(linear, x)
        except Exception:  # of any kind: it is not called as a linear layer is
            return False
    if not isinstance(output, Tensor) or output.shape != expected.shape:
        return False
    size = float(expected.float().abs().max()) if expected.numel() else 0.0
    tolerance = 8 * torch.finfo(weight.dtype).eps * size
    return torch.allclose(output.float(), expected.float(), rtol=0.0, atol=tolerance)


def is_conv1d(module: nn.Module) -> bool:
    """Whether it is GPT-2's linear layer, whose weight is (in, out)."""
    kind = type(module)
    return (kind.__module__, kind.__name__) == ("transformers.pytorch_utils", "Conv1D")


def linear_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The linear layers of a model by name, without the output head of a language model.

    Raises:
        InputError: there are none, or layers are quantised or already sparse.
    """
    _check_readable(model)
    head = output_head(model)
    linears = {
        name: module
        for name, module in model.named_modules()
        if is_linear(module) and module is not head
    }
    if not linears and _is_marked_quantised(model):
        raise _quantised(f"the model is quantised ({type(model).__name__})")
    if not linears:
        raise InputError(f"{type(model).__name__} has no linear layer to skip the inputs of")
    return linears


def _check_readable(model: nn.Module) -> None:
    """Raise InputError where weights are quantised or already sparse."""
    for name, module in model.named_modules():
        kind = type(module).__name__
        if kind == "SparseLinear":
            raise InputError(f"{name!r} is a {kind}: this model is sparse already")
        if _is_quantised(module):
            raise _quantised(f"{name!r} is quantised ({kind})")


def _quantised(what: str) -> InputError:
    return InputError(
        f"{what}, so its weights cannot be read: calibrate it in float32 or bfloat16; sparsify "
        "can store int8 itself"
    )


def _is_marked_quantised(model: nn.Module) -> bool:
    """Whether the model says so itself; a model read from GGUF does, although it is not."""
    config: Any = getattr(model, "config", None)
    return bool(
        getattr(model, "is_quantized", False) or getattr(config, "quantization_config", None)
    )


def _is_quantised(module: nn.Module) -> bool:
    if not hasattr(module, "in_features"):
        return False
    if "quantized" in type(module).__module__.split(".") or hasattr(module, "qweight"):
        return True
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor):
        return False
    wide = weight.is_floating_point() and weight.element_size() > 1
    if not isinstance(module, nn.Linear):
        return not wide
    plain = type(weight.data) in (Tensor, nn.Parameter)
    return not (plain and wide and tuple(weight.shape) == (module.out_features, module.in_features))
