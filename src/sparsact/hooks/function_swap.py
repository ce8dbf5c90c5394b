"""Modules that replace calls of activation functions, or single calls of a module."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from sparsact.hooks.activation_functions import changes_its_input
from sparsact.hooks.call_counter import CallCounter, Scope, enclosing_modules
from sparsact.hooks.call_kinds import named_hookable_modules
from sparsact.hooks.function_calls import Entrance, FunctionCalls, check_not_in_checkpoint
from sparsact.hooks.taps import around_forward, check_not_replica


class EachCall(nn.Module):
    """Calls another module at each call within a forward of the modules around it.

    Args:
        base: the name of the place, for errors.
        replacements: number of the call, from 1 → the module.
        original: the replaced module, for the calls with other numbers.
        keeps_others: whether calls with other numbers compute what they did; else they are errors.
    """

    def __init__(
        self,
        base: str,
        replacements: dict[int, nn.Module],
        original: nn.Module | None,
        keeps_others: bool,
    ) -> None:
        super().__init__()
        self.base = base
        self.keeps_others = keeps_others
        self.counter = CallCounter()
        for number, module in sorted(replacements.items()):
            self.add_module(str(number), module)
        self.original = original if keeps_others else None

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Call the module of this call."""
        module = self.next()
        if module is not None:
            return module(x)
        assert self.original is not None
        return self.original(x, *args, **kwargs)

    def next(self) -> nn.Module | None:
        """Count a call; return its module, or None if it computes what it did."""
        if not self.counter.is_inside(self.base):
            raise RuntimeError(
                f"{self.base!r} runs outside the modules around it, where its calls cannot be told "
                "apart: call the model, and put no part of a forward into a checkpoint"
            )
        module = self._modules.get(str(self.counter.number(self.base)))
        if module is None and not self.keeps_others:
            raise RuntimeError(
                f"{self.base!r} is called more often than on the example_input= for which it was "
                "swapped: use an example with as many calls"
            )
        return module

    def install(self, model: nn.Module) -> list[RemovableHandle]:
        """Install the hooks that number the calls; return their handles."""
        handles: list[RemovableHandle] = []
        for module, sites in enclosing_modules(model, [self.base]):
            scope = Scope(self.counter, sites)
            handles += around_forward(module, scope.start, scope.end)
        return handles


class FunctionSwap:
    """Replaces calls of functions in the forward of one module by its children.

    Args:
        owner: the module; the replacements are among its children.
        name: its name in the model.
        children: the name of the call, such as ``block.relu()`` → the name of the child.
        hidden: the calls that ``torch.compile`` would compute without their replacements.
    """

    def __init__(
        self, owner: nn.Module, name: str, children: dict[str, str], hidden: list[str]
    ) -> None:
        self.owner = owner
        self.name = name
        self.children = children
        self.hidden = hidden
        self.calls = FunctionCalls(frozenset(children), self.replace, {owner}, self.refuse)

    def replace(
        self, base: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Compute a call by its replacement."""
        check_not_replica(self.owner)
        check_not_in_checkpoint(base)
        replacement = getattr(self.owner, self.children[base])
        if isinstance(replacement, EachCall):
            replacement = replacement.next()
        if replacement is None:
            return function(*args, **kwargs)
        x = args[0] if args else kwargs["input"]
        if changes_its_input(function, args, kwargs):
            return x.copy_(replacement(x.clone()))
        return replacement(x)

    def refuse(self, owner: nn.Module) -> None:
        """Raise RuntimeError: the forward of the owner was called without the hooks."""
        raise RuntimeError(
            f"the forward of {self.name or 'the model'!r} was called directly, which ignores hooks "
            f"and the swap of {next(iter(self.children))!r}: call module(x), not module.forward(x)"
        )

    def check_compiled(self, *_: object) -> None:
        """Before the forward of the owner: raise if a compiled forward would miss a replacement."""
        if self.hidden and torch.compiler.is_compiling():
            raise RuntimeError(
                f"torch.compile does not show the call {self.hidden[0]!r}, which was swapped: in "
                "the forward, write x.relu_() in place of torch.relu_(x)"
            )

    def install(self) -> list[RemovableHandle]:
        """Install the hooks on the owner and on the modules inside it; return their handles."""
        handles = [self.owner.register_forward_pre_hook(self.check_compiled)]
        for _, module in named_hookable_modules(self.owner):
            entrance = Entrance(self.calls, self.name if module is self.owner else None)
            handles += around_forward(module, entrance.start, entrance.end)
        return handles


def join_function_swaps(old: nn.Module, new: nn.Module) -> None:
    """Let the functions that `new` calls inside be its own, as those of `old` were."""
    for hook in old._forward_pre_hooks.values():
        entrance = getattr(hook, "__self__", None)
        if isinstance(entrance, Entrance):
            for module in new.modules():
                inner = Entrance(entrance.calls, None)
                around_forward(module, inner.start, inner.end)
