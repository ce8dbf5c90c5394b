"""Hard shrinkage: function, autograd function and module."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from sparsact.kernels.definition import define
from sparsact.thresholds.arguments import (
    Sides,
    broadcast_threshold,
    check_input,
    restrict,
    widen,
    widen_like,
    zero_up_to,
)
from sparsact.thresholds.backward import kept, sum_to, where_nonzero
from sparsact.thresholds.complex_modulus import by_modulus, is_complex
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

_aten = torch.ops.aten
_sparsact = torch.ops.sparsact


@one_node
def hardshrink(
    x: Tensor,
    lambd: float | Tensor = 0.5,
    *,
    bandwidth: float = 0.05,
    kernel: Kernel = "rectangle",
    sides: Sides = "both",
    mask: Tensor | None = None,
    zero_other: bool = False,
) -> Tensor:
    """Hard shrinkage: ``x·1[|x| > λ]``, the proximal operator of ``(λ²/2)·‖x‖₀``.

    Args:
        x: any shape, floating point or complex. Complex entries are shrunk by modulus.
        lambd: λ ≥ 0, a float or a tensor that broadcasts to the shape of `x`.
        bandwidth: ε > 0, the width of the window around ±λ in which λ receives a gradient.
        kernel: the shape K_ε of that window, of area 1 and height 1/ε:
            ``"rectangle"`` is ``1[|d| < ε/2]/ε``, ``"triangle"`` is ``max(1 − |d|/ε, 0)/ε``,
            ``"sigmoid"`` is ``(4/ε)·σ(4d/ε)·σ(−4d/ε)``, which reaches every input.
        sides: ``"positive"`` or ``"negative"`` acts on entries of that sign only.
        mask: boolean, broadcasts to `x`; the function acts where it is True.
        zero_other: entries outside `sides` and `mask` become 0 instead of passing unchanged.

    Returns:
        a tensor of the shape and dtype of `x`. The band is closed: ``|x| = λ`` gives 0, as in
        torch; ``pywt.threshold`` keeps it. In half precision, λ is not rounded to the dtype of
        the input before the comparison; torch rounds it. NaN stays NaN.

    Gradient:
        ``∂x = 1[|x| > λ]``, exact. ``∂λ`` is 0 almost everywhere, so a tensor λ that requires a
        gradient gets a straight-through one: ``−sign(x)·λ·K_ε(|x| − λ)``. With the rectangle this
        is ``−sign(x)·(λ/ε)·1[ | |x| − λ | < ε/2 ]``. It needs the input for backward; without it,
        only the output is kept.

    Raises:
        TypeError: `x` is neither floating point nor complex.
        ValueError: a float λ is negative or not finite, or a tensor does not broadcast;
            ε is not positive;
            the kernel is unknown.

    Example:
        >>> hardshrink(torch.tensor([-2.0, -0.5, 0.2, 1.0]), 0.5)
        tensor([-2.,  0.,  0.,  1.])

    Source:
        Donoho & Johnstone, "Ideal spatial adaptation by wavelet shrinkage", Biometrika 81
        (1994). The gradient of λ is that of Rajamanoharan et al., "Jumping Ahead" (2024), eq. 11
        (with the rectangle), mirrored to both signs.
    """
    if is_complex(x):
        shrink = partial(hardshrink, lambd=lambd, bandwidth=bandwidth, kernel=kernel)
        return by_modulus(x, shrink, sides, mask, zero_other)
    check_input(x, "hardshrink")
    check_window(bandwidth, kernel)
    lambd = broadcast_threshold(lambd, x)
    shrunk: Tensor = _Hardshrink.run(x, lambd, bandwidth, kernel)
    return restrict(x, shrunk, sides, mask, zero_other)


class Hardshrink(BandModule):
    """Hard shrinkage as a module; see :func:`sparsact.functional.hardshrink`.

    `bandwidth` and `kernel` are those of the function. The other arguments are those of
    :class:`BandModule`. The gradient of a learned λ is straight-through.

    A learned λ cannot leave 0, where its gradient is 0: the output jumps by λ at the edge of the
    band, so the derivative vanishes with λ. Start above 0.

    Shape:
        any, returned unchanged.

    Example:
        >>> import torch
        >>> Hardshrink(0.5)(torch.tensor([-2.0, 0.2]))
        tensor([-2.,  0.])
    """

    def __init__(
        self,
        lambd: float | Tensor = 0.5,
        learnable: bool = False,
        num_parameters: int | None = 1,
        channel_dim: int = 1,
        *,
        bandwidth: float = 0.05,
        kernel: Kernel = "rectangle",
        sides: Sides = "both",
        zero_other: bool = False,
    ) -> None:
        super().__init__(
            lambd, learnable, num_parameters, channel_dim, sides=sides, zero_other=zero_other
        )
        check_window(bandwidth, kernel)
        self.bandwidth = bandwidth
        self.kernel: Kernel = kernel

    @leaf
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply the function to `x`, or only where `mask` is True."""
        return hardshrink(
            x,
            self.threshold(x),
            bandwidth=self.bandwidth,
            kernel=self.kernel,
            sides=self.sides,
            mask=mask,
            zero_other=self.zero_other,
        )

    def extra_repr(self) -> str:
        """λ, and the window in which it receives a gradient."""
        return super().extra_repr() + window_text(self.learnable, self.bandwidth, self.kernel)


class _Hardshrink(StepFunction):
    @staticmethod
    def forward(x: Tensor, lambd: float | Tensor, bandwidth: float, kernel: Kernel) -> Tensor:
        if isinstance(lambd, Tensor):
            fused = forward_is_fused(x, lambd)
            return (_sparsact.hardshrink if fused else _hard)(x, lambd)
        if torch.compiler.is_compiling():
            return _hard(x, lambd)
        shrunk: Tensor = _aten.hardshrink(x, _representable(lambd, x.dtype))
        return shrunk

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        saved, (lambd,) = kept(ctx)
        if not ctx.learns:
            return where_nonzero(grad, saved), None, None, None
        fused = backward_is_fused(grad, saved, lambd)
        back = _sparsact.hardshrink_backward if fused else _hard_back
        return *back(grad, saved, lambd, ctx.bandwidth, ctx.kernel), None, None

    @staticmethod
    def step(x: Tensor, level: float | Tensor) -> Tensor:
        """The forward without the kernels."""
        return _hard(x, level)

    @staticmethod
    def slope(x: Tensor, level: float | Tensor, bandwidth: float, kernel: Kernel) -> Tensor:
        """The straight-through derivative by λ."""
        return _slope(x, level, bandwidth, kernel)


def _hard(x: Tensor, lambd: float | Tensor) -> Tensor:
    return zero_up_to(lambd, widen(x).abs(), x)


def _hard_back(
    grad: Tensor, x: Tensor, lambd: Tensor, bandwidth: float, kernel: Kernel
) -> tuple[Tensor, Tensor]:
    grad_x = torch.where(_in_band(x, lambd), 0.0, grad)
    return grad_x, sum_to(_slope(x, lambd, bandwidth, kernel) * grad, lambd)


def _slope(x: Tensor, lambd: float | Tensor, bandwidth: float, kernel: Kernel) -> Tensor:
    wide = widen(x)
    wide_lambd = widen_like(lambd, wide)
    return -wide.sign() * wide_lambd * window(wide.abs() - wide_lambd, bandwidth, kernel)


def _representable(lambd: float, dtype: torch.dtype) -> float:
    """The largest value of `dtype` that is at most λ: rounding λ, as torch does, moves the band."""
    if dtype in (torch.float32, torch.float64):
        return lambd
    exact = torch.tensor(lambd)
    rounded = exact.to(dtype)
    if rounded.to(exact.dtype) > exact:
        rounded = torch.nextafter(rounded, torch.zeros_like(rounded))
    return rounded.item()


def _in_band(x: Tensor, lambd: float | Tensor) -> Tensor:
    wide = widen(x)
    return wide.abs() <= widen_like(lambd, wide)


define(
    "hardshrink",
    "(Tensor x, Tensor lambd) -> Tensor",
    _hard,
    lambda x, lambd: torch.empty_like(x),
    cpu="shrink",
    gpu="shrink",
)
define(
    "hardshrink_backward",
    "(Tensor grad, Tensor x, Tensor lambd, float bandwidth, str kernel) -> (Tensor, Tensor)",
    _hard_back,
    lambda grad, x, lambd, *_: (torch.empty_like(x), lambd.new_empty(lambd.shape)),
    cpu="shrink",
    gpu="shrink",
)
