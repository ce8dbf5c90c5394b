"""What the autograd functions of step-like thresholds share."""

from typing import Any

from torch import Tensor

from sparsact.thresholds.backward import keep
from sparsact.thresholds.forward_mode import DifferentiableFunction, forward_mode
from sparsact.thresholds.straight_through import Kernel, zero_with_slope


class StepFunction(DifferentiableFunction):
    """A differentiable function that jumps at a level, whose gradient is straight-through."""

    @staticmethod
    def step(x: Tensor, level: float | Tensor) -> Tensor:
        """The forward, of plain operations."""
        raise NotImplementedError

    @staticmethod
    def slope(x: Tensor, level: float | Tensor, bandwidth: float, kernel: Kernel) -> Tensor:
        """The derivative by the level, for each entry."""
        raise NotImplementedError

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, float | Tensor, float, Kernel], output: Tensor
    ) -> None:
        """Keep the input only if the level learns, else the output alone."""
        x, level, ctx.bandwidth, ctx.kernel = inputs
        # the window reaches into the band, so the gradient of the level needs x
        ctx.learns = ctx.needs_input_grad[1] or (isinstance(level, Tensor) and forward_mode())
        keep(ctx, x if ctx.learns else output, level)

    @classmethod
    def composite(
        cls, x: Tensor, level: float | Tensor, bandwidth: float, kernel: Kernel
    ) -> Tensor:
        """The forward, and the gradient of the level."""
        slope = cls.slope(x, level, bandwidth, kernel)
        return cls.step(x, level) + zero_with_slope(level, slope).to(x.dtype)
