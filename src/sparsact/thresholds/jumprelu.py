"""JumpReLU: function, autograd function and module."""

from typing import Any

import torch
from torch import Tensor

from sparsact.kernels.definition import define
from sparsact.thresholds.arguments import (
    broadcast_threshold,
    check_input,
    restrict,
    widen,
    widen_like,
    zero_up_to,
)
from sparsact.thresholds.backward import kept, sum_to, where_nonzero
from sparsact.thresholds.fused_dispatch import backward_is_fused, forward_is_fused
from sparsact.thresholds.step_function import StepFunction
from sparsact.thresholds.straight_through import (
    Kernel,
    check_window,
    window,
    window_text,
)
from sparsact.thresholds.threshold_module import BandModule
from sparsact.thresholds.tracing import leaf, one_node

_sparsact = torch.ops.sparsact


@one_node
def jumprelu(
    x: Tensor,
    threshold: float | Tensor = 0.5,
    *,
    bandwidth: float = 0.05,
    kernel: Kernel = "rectangle",
    mask: Tensor | None = None,
    zero_other: bool = False,
) -> Tensor:
    """JumpReLU: ``x·1[x > θ]``, a ReLU whose step lies at θ.

    Args:
        x: any shape, floating point.
        threshold: θ ≥ 0, a float or a tensor that broadcasts to the shape of `x`.
        bandwidth: ε > 0, the width of the window around θ in which θ receives a gradient.
        kernel: the shape K_ε of that window: ``"rectangle"``, ``"triangle"`` or ``"sigmoid"``,
            with the formulas of :func:`sparsact.functional.hardshrink`.
        mask: boolean, broadcasts to `x`; the function acts where it is True.
        zero_other: entries outside `mask` become 0 instead of passing unchanged.

    Returns:
        a tensor of the shape and dtype of `x`. ``x = θ`` gives 0; NaN stays NaN.

    Gradient:
        ``∂x = 1[x > θ]``, exact. ``∂θ`` is straight-through: ``−θ·K_ε(x − θ)``, which is
        ``−(θ/ε)·1[|x − θ| < ε/2]`` with the rectangle. It needs the input for backward; without
        it, only the output is kept.

    Raises:
        TypeError: `x` is not floating point.
        ValueError: a float θ is negative or not finite, or a tensor does not broadcast;
            ε is not positive;
            the kernel is unknown.

    Example:
        >>> jumprelu(torch.tensor([-2.0, 0.3, 0.5, 1.0]), 0.5)
        tensor([0., 0., 0., 1.])

    Source:
        Rajamanoharan et al., "Jumping Ahead: Improving Reconstruction Fidelity with JumpReLU
        Sparse Autoencoders" (2024), eqs. 2 and 11, with the rectangle.
    """
    check_input(x, "jumprelu")
    check_window(bandwidth, kernel)
    threshold = broadcast_threshold(threshold, x, "threshold")
    gated: Tensor = _JumpReLU.run(x, threshold, bandwidth, kernel)
    return restrict(x, gated, "both", mask, zero_other)


class JumpReLU(BandModule):
    """JumpReLU as a module; see :func:`sparsact.functional.jumprelu`.

    Args:
        threshold: the (initial) θ ≥ 0; held as ``lambd``, like the λ of every threshold module.
        learnable: make θ a parameter; its gradient is straight-through.
        num_parameters: 1, or the number of channels for one θ per channel.
        channel_dim: the dim of the channels, as in :class:`ThresholdModule`.
        bandwidth: the width of the window around θ in which a learned θ receives a gradient.
        kernel: the shape of that window, as in the function.

    A learned θ cannot leave 0, where its gradient is 0: the output jumps by θ at θ, so the
    derivative vanishes with θ. Start above 0.

    Shape:
        any, returned unchanged.

    Example:
        >>> import torch
        >>> JumpReLU(0.5)(torch.tensor([-2.0, 0.2, 1.0]))
        tensor([0., 0., 1.])
    """

    _shrinks_modulus = False

    def __init__(
        self,
        threshold: float | Tensor = 0.5,
        learnable: bool = False,
        num_parameters: int | None = 1,
        channel_dim: int = 1,
        *,
        bandwidth: float = 0.05,
        kernel: Kernel = "rectangle",
    ) -> None:
        super().__init__(threshold, learnable, num_parameters, channel_dim)
        check_window(bandwidth, kernel)
        self.bandwidth = bandwidth
        self.kernel: Kernel = kernel

    @leaf
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply the function to `x`, or only where `mask` is True."""
        return jumprelu(
            x, self.threshold(x), bandwidth=self.bandwidth, kernel=self.kernel, mask=mask
        )

    def _score(self, sample: Tensor) -> tuple[Tensor, None]:
        return widen(sample), None

    def extra_repr(self) -> str:
        """θ, and the window in which it receives a gradient."""
        return super().extra_repr() + window_text(self.learnable, self.bandwidth, self.kernel)


class _JumpReLU(StepFunction):
    @staticmethod
    def forward(x: Tensor, threshold: float | Tensor, bandwidth: float, kernel: Kernel) -> Tensor:
        if isinstance(threshold, Tensor) and x.is_cuda and forward_is_fused(x, threshold):
            return _sparsact.jumprelu(x, threshold)  # type: ignore[no-any-return]
        return _JumpReLU.step(x, threshold)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        saved, (threshold,) = kept(ctx)
        if not ctx.learns:
            return where_nonzero(grad, saved), None, None, None
        fused = saved.is_cuda and backward_is_fused(grad, saved, threshold)
        back = _sparsact.jumprelu_backward if fused else _jump_back
        return *back(grad, saved, threshold, ctx.bandwidth, ctx.kernel), None, None

    @staticmethod
    def step(x: Tensor, level: float | Tensor) -> Tensor:
        """The forward."""
        return zero_up_to(level, widen(x), x)

    @staticmethod
    def slope(x: Tensor, level: float | Tensor, bandwidth: float, kernel: Kernel) -> Tensor:
        """The straight-through derivative by θ."""
        wide = widen(x)
        wide_level = widen_like(level, wide)
        return -wide_level * window(wide - wide_level, bandwidth, kernel)


def _jump_back(
    grad: Tensor, x: Tensor, threshold: Tensor, bandwidth: float, kernel: Kernel
) -> tuple[Tensor, Tensor]:
    grad_x = torch.where(_below(x, threshold), 0.0, grad)
    slope = _JumpReLU.slope(x, threshold, bandwidth, kernel)
    return grad_x, sum_to(slope * grad, threshold)


def _below(x: Tensor, threshold: float | Tensor) -> Tensor:
    wide = widen(x)
    return wide <= widen_like(threshold, wide)


define(
    "jumprelu",
    "(Tensor x, Tensor threshold) -> Tensor",
    _JumpReLU.step,
    lambda x, threshold: torch.empty_like(x),
    gpu="shrink",
)
define(
    "jumprelu_backward",
    "(Tensor grad, Tensor x, Tensor threshold, float bandwidth, str kernel) -> (Tensor, Tensor)",
    _jump_back,
    lambda grad, x, threshold, *_: (torch.empty_like(x), threshold.new_empty(threshold.shape)),
    gpu="shrink",
)
