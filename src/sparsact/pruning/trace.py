"""Following the units of a model through one forward of its example input."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from sparsact.pruning.model_calls import call_without_gradient, tensors_in
from sparsact.pruning.operation import Operation, Weight
from sparsact.pruning.rules import RULES, pointwise, unknown
from sparsact.pruning.shadows import Shadows
from sparsact.pruning.units import Units
from sparsact.pruning.whole_calls import circular_pad, elementwise_thresholds, threshold_call

_LEAVE_TORCH = {"numpy", "__array__", "tolist", "data_ptr", "__dlpack__"}
_READ_VALUES = {"_local_scalar_dense", "equal", "nonzero", "masked_select", "_unique2"}
_WHOLE_VIEWS = {
    "_reshape_alias",
    "_unsafe_view",
    "detach",
    "lift_fresh",
    "permute",
    "squeeze",
    "t",
    "transpose",
    "unsqueeze",
    "view",
}


@dataclass
class Step:
    """One operation of a forward: its name, its place, its numbers and the labels it wrote."""

    name: str
    place: str
    numbers: tuple[float, ...]
    labels: Tensor


@dataclass
class Trace:
    """What one forward shows.

    Attributes:
        model: the model.
        units: the units and their couplings.
        shadows: the shadows of all tensors.
        weights: the matrices and convolution weights that read and write units, by name.
        steps: the operations in their order.
        lost: label → where its value stopped to be one constant.
        obstacle: why no unit at all may be removed.
        used: the parameters and buffers that an operation took.
        parts: weight used in parts → which of its rows were used.
    """

    model: nn.Module
    units: Units
    shadows: Shadows
    weights: dict[str, Weight] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    lost: dict[int, str] = field(default_factory=dict)
    obstacle: str | None = None
    used: set[str] = field(default_factory=set)
    parts: dict[str, Tensor] = field(default_factory=dict)

    def values_are_read(self, place: str, tensors: Sequence[Tensor]) -> None:
        """Note that Python may branch on values; those computed from an input are an obstacle."""
        if any(map(self.shadows.depends_on_input, tensors)):
            self.obstacle = (
                f"{place} reads the value of a tensor in Python: the forward may take "
                "another way for another input"
            )


def trace(
    model: nn.Module, example: Any, must_stay: Mapping[str, str] = MappingProxyType({})
) -> Trace:
    """Follow the units of `model`, which is in eval mode, through a forward of `example`.

    Args:
        model: the model.
        example: its example input.
        must_stay: parameter → why it must keep its size.
    """
    units = Units()
    result = Trace(model, units, Shadows(model, units))
    for leaf in tensors_in(example):
        result.shadows.mark_input(leaf)
    mode = _Follow(result)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its one operation hides the parts
    try:
        with (
            torch.compiler.set_stance("force_eager"),  # the mode does not see compiled parts
            _places(model, mode),
            sdpa_kernel(SDPBackend.MATH),
            mode,
            _WatchExits(mode),
        ):
            outputs = call_without_gradient(model, example)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    for output in outputs:
        units.fix(result.shadows.labels(output), "its units are outputs of the model")
    for (name, dim), labels in units.slots.items():
        if name in must_stay:
            units.fix(labels, must_stay[name])
        if dim == 0 and name in result.parts:
            units.fix(labels[~result.parts[name]], f"the example does not use all rows of {name}")
    return result


def layers_that_did_not_run(trace: Trace) -> list[str]:
    """The names of layers whose parameters no operation took."""
    return [
        name
        for name, module in trace.model.named_modules()
        if not any(True for _ in module.children())
        and any(True for _ in module.parameters(recurse=False))
        and not any(
            trace.shadows.held_name(p) in trace.used for p in module.parameters(recurse=False)
        )
    ]


class _Follow(TorchDispatchMode):
    """Runs every operation, and applies its rule to the shadows."""

    def __init__(self, result: Trace) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.result = result
        self.places: list[str] = []
        self.paused = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.paused:
            return func(*args, **kwargs)
        before = Operation.prepare(self.result, func, args, kwargs, self.place)
        try:
            out = func(*args, **kwargs)
        except Exception as error:
            error.sparsact_place = self.place  # type: ignore[attr-defined]
            raise
        if before is not None:
            before.finish(out)
            self._apply(before)
        return out

    @property
    def place(self) -> str:
        return self.places[-1] if self.places else "the model"

    def _apply(self, operation: Operation) -> None:
        name = operation.name
        self.result.used |= {
            held for t in operation.tensors if (held := self.result.shadows.held_name(t))
        }
        if name in _READ_VALUES:
            self.result.values_are_read(self.place, operation.tensors)
        if name == "_local_scalar_dense":
            return
        if any(out.numel() == 0 and out.ndim > 1 for out in operation.outputs):
            self.result.obstacle = (
                f"{operation.text} makes an empty tensor, so that the example input does not show "
                "what becomes of its entries: give a larger example input"
            )
        if operation.shares_storage and not operation.changes:
            operation.pass_on_dependence()
            if name == "lift_fresh":
                self.record(operation)
            if name not in _WHOLE_VIEWS or any(map(self.result.shadows.is_part, operation.tensors)):
                for out in operation.outputs:
                    self.result.shadows.mark_part(out)
            return
        is_pointwise = torch.Tag.pointwise in operation.func.tags and bool(operation.outputs)
        RULES.get(name, pointwise if is_pointwise else unknown)(operation)
        operation.pass_on_dependence()
        self.record(operation)

    def record(self, operation: Operation) -> None:
        """Note the step, and where values stopped to be constant."""
        shadows, result = self.result.shadows, self.result
        for out in operation.outputs:
            labels = shadows.labels(out)
            result.steps.append(
                Step(operation.name, operation.place, operation.numbers, labels.clone())
            )
            if operation.had_constants:
                lost = labels[shadows.values(out).isnan()].unique()
                for label in lost.tolist():
                    if label in operation.constant_labels:
                        result.lost.setdefault(label, operation.text)


class _WatchExits(TorchFunctionMode):
    """Keeps the units of a tensor whose values leave torch."""

    def __init__(self, mode: _Follow) -> None:
        super().__init__()
        self.mode, self.result = mode, mode.result

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in _LEAVE_TORCH and args and isinstance(args[0], Tensor):
            labels = self.result.shadows.labels(args[0])
            self.result.units.fix(labels, f"its values leave torch by {name}()")
            self.result.values_are_read(self.mode.place, args[:1])
        if name == "pad" and "circular" in (*args, *(kwargs or {}).values()):
            return circular_pad(func, args, kwargs or {}, self.mode)
        return func(*args, **(kwargs or {}))


@contextmanager
def _places(model: nn.Module, mode: _Follow) -> Iterator[None]:
    """Tell the mode which module runs, and treat threshold modules as one operation."""
    handles: list[Any] = []

    def enter(text: str) -> Any:
        return lambda module, args: mode.places.append(text)

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        mode.places.pop()

    for name, module in model.named_modules():
        if name:
            text = f"{name!r} ({type(module).__name__})"
            handles.append(module.register_forward_pre_hook(enter(text), prepend=True))
            handles.append(module.register_forward_hook(leave, always_call=True))
    replaced = elementwise_thresholds(model)
    for module in replaced:
        module.forward = threshold_call(module, mode)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module in replaced:
            del module.forward
