"""The mode in which every call of a function of torch is passed to a receiver."""

from collections.abc import Callable
from typing import Any, Protocol

from torch.overrides import TorchFunctionMode


class Receiver(Protocol):
    """Computes the calls."""

    def call(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Return the output of a call; the mode is off meanwhile."""


class FunctionMode(TorchFunctionMode):
    """Passes every call to `receiver`."""

    def __init__(self, receiver: Receiver) -> None:
        super().__init__()
        self.receiver = receiver

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        return self.receiver.call(func, args, kwargs or {})
