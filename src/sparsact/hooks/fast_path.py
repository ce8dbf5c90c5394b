"""torch's fast path through transformer encoders, which hooks and swaps would change or miss.

In eval mode without gradients, ``nn.TransformerEncoder`` and its layers compute a layer in one
operation. It does not call the layer's modules, and torch leaves it as soon as a hook is there,
which changes the last bits of the results.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from sparsact.hooks.copies import without_taps
from sparsact.hooks.function_calls import without_function_calls
from sparsact.hooks.taps import Taps
from sparsact.hooks.tensors import in_backward

_ENCODERS = (nn.TransformerEncoder, nn.TransformerEncoderLayer)


def keep_fast_path(model: nn.Module, taps: Taps) -> None:
    """Make observed encoders return what they return without the taps.

    The taps see the ordinary forward. Where torch would take the fast path, the encoder then runs
    once more without them, for the result.
    """
    for encoder in _outermost(model, _ENCODERS):
        if not taps.modules.isdisjoint(encoder.modules()):
            observed = _ObservedEncoder(encoder)
            taps.around(encoder, observed.start, observed.end)
            taps.replace_output(encoder, observed.run_without_taps, first=True)


def leave_fast_path(model: nn.Module, changed: nn.Module) -> Iterator[tuple[nn.Module, str, Any]]:
    """Make the encoders that contain `changed` call their modules in every mode.

    Yields:
        what was changed: the module, its attribute and the value before.
    """
    for encoder in model.modules():
        if isinstance(encoder, _ENCODERS) and changed in encoder.modules():
            nested = isinstance(encoder, nn.TransformerEncoder)
            attribute, value = ("use_nested_tensor", False) if nested else (_ACTIVATION, 0)
            yield encoder, attribute, getattr(encoder, attribute, value)
            setattr(encoder, attribute, value)


_ACTIVATION = "activation_relu_or_gelu"


class _ObservedEncoder:
    """The hooks of an encoder that is observed."""

    def __init__(self, encoder: Any) -> None:
        self.uses_nested_tensors = getattr(encoder, "use_nested_tensor", None)

    def start(self, encoder: Any, args: object, kwargs: object) -> None:
        """Before the forward: its modules cannot be called with nested tensors."""
        if self.uses_nested_tensors and not torch.compiler.is_compiling():
            encoder.use_nested_tensor = False

    def end(self, encoder: Any, args: object, output: object) -> None:
        """After the forward, also if it failed."""
        if self.uses_nested_tensors and not torch.compiler.is_compiling():
            encoder.use_nested_tensor = True

    def run_without_taps(
        self, encoder: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: object
    ) -> Any:
        """Return the output that the encoder has without taps; None if it is the same."""
        if not _could_take_fast_path(encoder):
            return None
        with without_taps(encoder), without_function_calls():
            if isinstance(encoder, nn.TransformerEncoderLayer) and _has_hooks(encoder):
                return None
            self.end(encoder, args, output)
            return encoder.forward(*args, **kwargs)


def _could_take_fast_path(encoder: nn.Module) -> bool:
    if torch.compiler.is_compiling() or in_backward():
        return False
    if any(module.training for module in encoder.modules()):
        return False
    learns = any(parameter.requires_grad for parameter in encoder.parameters())
    return torch.backends.mha.get_fastpath_enabled() and not (torch.is_grad_enabled() and learns)


def _has_hooks(module: nn.Module) -> bool:
    """Whether a module or one inside it has hooks, as those of swapped functions."""
    return any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def _outermost(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> list[nn.Module]:
    inner: set[int] = set()
    outermost = []
    for module in model.modules():
        if id(module) not in inner and isinstance(module, kinds):
            outermost.append(module)
            inner.update(map(id, module.modules()))
    return outermost
