"""What a module is to the search for activations: one itself, or a caller of functions."""

from collections.abc import Iterator

import torch
from torch import nn


def named_hookable_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The names and modules of a model, without TorchScript, which takes no hooks."""
    for name, module in model.named_modules():
        if not isinstance(module, torch.jit.ScriptModule):
            yield name, module


def is_known_activation(module: nn.Module) -> bool:
    """Whether a module is an activation by its type: of this package, or of transformers."""
    return type(module).__module__.startswith(("sparsact.thresholds.", "transformers.activations"))


def is_activation_module(name: str, module: nn.Module) -> bool:
    """Whether a module only computes an activation, so that its calls are the call sites.

    Such are the known ones, torch's own, and modules without children and matrices whose forward
    takes one tensor.
    """
    kind = type(module)
    if kind.__module__ == "torch.nn.modules.activation":
        return not isinstance(module, nn.MultiheadAttention)
    if is_known_activation(module):
        return True
    held = (*module.parameters(), *module.buffers())
    if not name or any(True for _ in module.children()) or any(value.ndim > 1 for value in held):
        return False
    code = getattr(kind.forward, "__code__", None)
    if code is None:
        return False
    required = code.co_argcount - len(kind.forward.__defaults__ or ())
    return bool(required == 2 or code.co_argcount == 2)


def calls_functions(name: str, module: nn.Module) -> bool:
    """Whether the forward of a module may call activation functions that are call sites."""
    kind = type(module)
    if isinstance(module, (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)):
        return True
    if kind.__module__.startswith(("torch.nn.", "torch.jit.")):
        return False
    return not is_activation_module(name, module)
