"""Calls followed as one operation: circular padding, and this library's thresholds."""

from typing import Any

import torch
from torch import Tensor, nn

from sparsact.pruning.operation import Operation, nan_where_not
from sparsact.thresholds.group_softshrink import GroupSoftshrink
from sparsact.thresholds.sparse_group_softshrink import SparseGroupSoftshrink
from sparsact.thresholds.threshold_module import ThresholdModule


def elementwise_thresholds(model: nn.Module) -> list[Any]:
    """The threshold modules that treat each entry separately."""
    grouped = (GroupSoftshrink, SparseGroupSoftshrink)
    return [
        module
        for module in model.modules()
        if isinstance(module, ThresholdModule) and not isinstance(module, grouped)
    ]


def threshold_call(module: Any, mode: Any) -> Any:
    """A forward of `module` that is one operation of the trace.

    Its own operations are not followed: some are compiled, and some compare with λ.
    """
    forward = module.forward

    def run(*args: Any, **kwargs: Any) -> Tensor:
        if mode.paused:
            result: Tensor = forward(*args, **kwargs)
            return result
        mode.paused = True
        try:
            result = forward(*args, **kwargs)
            _follow(module, forward, args, kwargs, result, mode)
        finally:
            mode.paused = False
        return result

    return run


def circular_pad(func: Any, args: Any, kwargs: Any, mode: Any) -> Tensor:
    """``F.pad(…, mode="circular")``: entries of the tensor itself, and nothing else."""
    if mode.paused:
        result: Tensor = func(*args, **kwargs)
        return result
    given = list(args)
    x = given.pop(0) if given else kwargs["input"]
    kwargs = {key: value for key, value in kwargs.items() if key != "input"}
    mode.paused = True
    try:
        operation = Operation(mode.result, None, (x,), {}, mode.place)
        operation.name = "pad"
        operation.outputs = [func(x, *given, **kwargs)]
        labels = func(operation.labels(x), *given, **kwargs)
        operation.write(labels, func(operation.values(x), *given, **kwargs))
        operation.pass_on_dependence()
        mode.record(operation)
    finally:
        mode.paused = False
    return operation.outputs[0]


def _follow(module: Any, forward: Any, args: Any, kwargs: Any, result: Tensor, mode: Any) -> None:
    given = [value for value in (*args, *kwargs.values()) if value is not None]
    x, rest = given[0], given[1:]
    operation = Operation(mode.result, None, (x,), {}, mode.place)
    operation.outputs = [result]
    labels, values = operation.labels(x), operation.values(x)
    if rest:
        operation.fix(labels, "is limited to a part of its input")
        values = torch.full_like(values, torch.nan)
    for name, held in [*module.named_parameters(), *module.named_buffers()]:
        if held.numel() > 1:
            channels = operation.labels(held)
            shape = [1] * x.ndim
            shape[module.channel_dim] = -1
            operation.units.unite(
                labels,
                channels.reshape(shape).expand(labels.shape),
                f"it is coupled with something that cannot be made smaller: {name} of "
                f"{operation.place}",
            )
    constants = forward(values.nan_to_num().to(x)).cpu()  # `x` may be on another device
    operation.write(labels, nan_where_not(~values.isnan(), constants))
    operation.pass_on_dependence()
    mode.record(operation)
