"""Models whose weights accelerate keeps elsewhere, and brings for the forward of each layer."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from sparsact._common.errors import InputError
from sparsact._common.extras import require


def is_offloaded(module: nn.Module) -> bool:
    """Whether accelerate brings the module's own parameters when they are needed."""
    return hasattr(module, "_hf_hook") and any(p.is_meta for p in module.parameters(False))


@contextmanager
def present(module: nn.Module) -> Iterator[None]:
    """A block in which the module's own parameters have their values."""
    if not is_offloaded(module):
        yield
        return
    with require("accelerate.utils", "transformers").align_module_device(module):
        yield


def warn_if_offloaded(model: nn.Module, score: str) -> None:
    """Warn where a score by gradients would bring all offloaded weights into memory."""
    if _offloaded(model) is not None:
        warnings.warn(
            f"score={score!r} keeps the offloaded weights of all layers in memory until its "
            "backward; 'weight' and 'magnitude' need one layer at a time",
            stacklevel=3,
        )


def _offloaded(model: nn.Module) -> str | None:
    """The name of the first module that is offloaded."""
    return next((name for name, module in model.named_modules() if is_offloaded(module)), None)


def check_in_memory(model: nn.Module, function: str) -> None:
    """Raise InputError if weights that `function` would change are offloaded."""
    name = _offloaded(model)
    if name is not None:
        raise InputError(
            f"{function} changes weights, and those of {name!r} are offloaded by accelerate: load "
            "the model into memory"
        )
