"""How the autograd functions are applied: in forward mode and inside compiled transforms too."""

import functools
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad

from sparsact.thresholds.arguments import accumulate_dtype, widen


def forward_mode() -> bool:
    """Whether this runs inside ``torch.func.jvp`` or the like, or inside a dual level."""
    return not torch.compiler.is_compiling() and forward_ad._current_level >= 0


def _in_transform() -> bool:
    """Whether a transform of ``torch.func`` is at work; ``torch.compile`` asks while it traces."""
    return torch._C._functorch.peek_interpreter_stack() is not None


# as `torch.compiler.assume_constant_result` marks it, which loads the compiler: a second at import
_in_transform._dynamo_marked_constant = True  # type: ignore[attr-defined]


class DifferentiableFunction(Function):
    """An autograd function that is applied by :meth:`run`, which adds the forward mode.

    ``torch.compile(fullgraph=True)`` refuses a function that has a ``jvp``. So `jvp` belongs to a
    subclass, which runs in forward mode only.

    ``torch.compile(torch.func.grad(f))`` ignores every backward and differentiates the operations
    of the forward. Where that is not the same, a function has a :meth:`composite` of its own.
    """

    generate_vmap_rule = True

    @classmethod
    def run(cls, *arguments: Any) -> Any:
        """Apply the function; ``torch.jit.trace`` records plain operations, which it can save."""
        if torch.compiler.is_compiling():
            return (cls.composite if _in_transform() else cls.apply)(*arguments)
        if torch._C._get_tracing_state():
            return cls.forward(*arguments)
        return (_with_jvp(cls) if forward_mode() else cls).apply(*arguments)

    @classmethod
    def composite(cls, *arguments: Any) -> Any:
        """The forward, of operations whose own derivatives are those of backward."""
        return cls.forward(*arguments)

    @classmethod
    def tangent(cls, ctx: Any, x: Tensor, *levels: Any) -> Tensor:
        """The tangent of the output, for the tangents of the input and of λ or other levels.

        This is for functions that act on each entry separately. Their Jacobians are diagonal, so
        ``J·v`` is ``Jᵀ·v``: what backward returns, if λ has one value per entry.
        """
        saved = ctx.saved_tensors[0]
        parts = [
            cls.backward(_OneColumn(ctx, column), tangent.expand_as(saved))[column]
            for column, tangent in enumerate((x, *levels))
            if isinstance(tangent, Tensor)
        ]
        return sum(parts[1:], parts[0]).to(saved.dtype)  # type: ignore[no-any-return]


class BandFunction(DifferentiableFunction):
    """A differentiable function that is 0 in a closed band, and has the slope 0 there."""

    @classmethod
    def composite(cls, *arguments: Any) -> Tensor:
        """The forward, with the slope 0 on the edge too: releases of torch differ in theirs."""
        output = cls.forward(*arguments)
        return torch.where(output == 0, 0.0, output)


class SumFunction(DifferentiableFunction):
    """A differentiable function whose output is a sum over all entries: a scalar."""

    @classmethod
    def tangent(cls, ctx: Any, x: Tensor, *levels: Any) -> Tensor:
        """The inner product of the gradient, which backward returns, and the tangents."""
        saved = ctx.saved_tensors[0]
        one = torch.ones((), dtype=accumulate_dtype(saved), device=saved.device)
        parts = [
            (widen(cls.backward(_OneColumn(ctx, column), one)[column]) * tangent).sum()
            for column, tangent in enumerate((x, *levels))
            if isinstance(tangent, Tensor)
        ]
        return sum(parts[1:], parts[0])


class _OneColumn:
    """The context of a backward that finds one gradient, with λ spread over the entries."""

    def __init__(self, ctx: Any, column: int) -> None:
        self._ctx = ctx
        first = ctx.saved_tensors[0]
        self.saved_tensors = tuple(tensor.expand_as(first) for tensor in ctx.saved_tensors)
        self.needs_input_grad = tuple(i == column for i in range(5))  # no function has more

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)


@functools.cache
def _with_jvp(function: type[DifferentiableFunction]) -> Any:
    return type(function.__name__, (function,), {"jvp": staticmethod(function.tangent)})
