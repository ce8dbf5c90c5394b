"""What ``torch.fx`` and TorchScript see of the threshold functions and modules."""

import functools
from collections.abc import Callable
from typing import Any, NoReturn, ParamSpec, TypeVar

from torch import Tensor, nn
from torch.fx import Proxy

P = ParamSpec("P")
F = TypeVar("F", bound=Callable[..., Any])


def one_node(function: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """A function that ``torch.fx`` records as one call, as it records torch's own."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        x: Any = args[0] if args else kwargs.get("x")
        if isinstance(x, Proxy):
            node: Any = x.tracer.create_proxy("call_function", call, args, kwargs)
            return node  # type: ignore[no-any-return]
        return function(*args, **kwargs)

    return call


def leaf(forward: F) -> F:
    """A module's forward that ``torch.fx`` records as one call of the module."""

    @functools.wraps(forward)
    def call(self: nn.Module, x: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(x, Proxy):
            return forward(self, x, *args, **kwargs)
        tracer: Any = x.tracer
        if tracer.root is self:
            raise TypeError(
                f"torch.fx traces {type(self).__name__} only as a part of a model: trace "
                "nn.Sequential(module)"
            )
        return tracer.create_proxy("call_module", tracer.path_of_module(self), (x, *args), kwargs)

    return call  # type: ignore[return-value]


class Unscriptable(nn.Module):
    """Abstract base: ``torch.jit.script`` refuses the module in one line."""

    def __prepare_scriptable__(self) -> NoReturn:
        """Called by ``torch.jit.script``."""
        raise TypeError(
            f"torch.jit.script does not support {type(self).__name__}: use torch.compile, "
            "torch.export or, to deploy it, torch.jit.trace"
        )
