"""SCAD shrinkage: function, autograd function and module."""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.thresholds.arguments import (
    Sides,
    broadcast_threshold,
    check_input,
    narrow,
    restrict,
    widen,
    widen_like,
)
from sparsact.thresholds.backward import keep, kept, sum_to, where_nonzero
from sparsact.thresholds.complex_modulus import by_modulus, is_complex
from sparsact.thresholds.forward_mode import BandFunction
from sparsact.thresholds.softshrink import soft_part
from sparsact.thresholds.threshold_module import BandModule
from sparsact.thresholds.tracing import leaf, one_node


@one_node
def scad(
    x: Tensor,
    lambd: float | Tensor = 0.5,
    a: float = 3.7,
    *,
    sides: Sides = "both",
    mask: Tensor | None = None,
    zero_other: bool = False,
) -> Tensor:
    """SCAD shrinkage: soft up to 2λ, ``((a − 1)x − sign(x)·aλ)/(a − 2)`` up to aλ, then x.

    The proximal operator, with step 1, of the smoothly clipped absolute deviation penalty.

    Args:
        x: any shape, floating point or complex. Complex entries are shrunk by modulus.
        lambd: λ ≥ 0, a float or a tensor that broadcasts to the shape of `x`.
        a: a > 2; entries beyond aλ pass unchanged.
        sides: ``"positive"`` or ``"negative"`` acts on entries of that sign only.
        mask: boolean, broadcasts to `x`; the function acts where it is True.
        zero_other: entries outside `sides` and `mask` become 0 instead of passing unchanged.

    Returns:
        a tensor of the shape and dtype of `x`. The band is closed: ``|x| = λ`` gives 0. NaN
        stays NaN.

    Gradient:
        exact. On the four pieces ``∂x`` is 0, 1, ``(a − 1)/(a − 2)``, 1 and
        ``∂λ = −sign(x)·{0, 1, a/(a − 2), 0}``. Only the output is kept for backward.

    Raises:
        TypeError: `x` is neither floating point nor complex.
        ValueError: a float λ is negative or not finite, or a tensor does not broadcast;
            a is not above 2.

    Example:
        >>> scad(torch.tensor([-4.0, -0.75, 0.5, 1.5]), 0.5, a=4.0)
        tensor([-4.0000, -0.2500,  0.0000,  1.2500])

    Source:
        Fan & Li, "Variable selection via nonconcave penalized likelihood and its oracle
        properties", JASA 96 (2001), eq. 2.8, which suggests a = 3.7.
    """
    if is_complex(x):
        shrink = partial(scad, lambd=lambd, a=a)
        return by_modulus(x, shrink, sides, mask, zero_other)
    check_input(x, "scad")
    check_a(a)
    lambd = broadcast_threshold(lambd, x)
    shrunk: Tensor = _Scad.run(x, lambd, float(a))
    return restrict(x, shrunk, sides, mask, zero_other)


class SCAD(BandModule):
    """SCAD shrinkage as a module; see :func:`sparsact.functional.scad`.

    Args:
        lambd: the (initial) λ ≥ 0. It and the arguments not listed here are those of
            :class:`BandModule`. The gradient of a learned λ is exact.
        a: a > 2; inputs beyond aλ pass unchanged.

    A learned λ cannot leave 0, where its gradient is 0: only inputs below aλ depend on λ. Start
    above 0.

    Shape:
        any, returned unchanged.

    Example:
        >>> import torch
        >>> SCAD(0.5, a=4.0)(torch.tensor([-4.0, -0.75, 1.5]))
        tensor([-4.0000, -0.2500,  1.2500])
    """

    def __init__(
        self,
        lambd: float | Tensor = 0.5,
        learnable: bool = False,
        num_parameters: int | None = 1,
        channel_dim: int = 1,
        *,
        a: float = 3.7,
        sides: Sides = "both",
        zero_other: bool = False,
    ) -> None:
        super().__init__(
            lambd, learnable, num_parameters, channel_dim, sides=sides, zero_other=zero_other
        )
        check_a(a)
        self.a = a

    @leaf
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply the function to `x`, or only where `mask` is True."""
        return scad(
            x,
            self.threshold(x),
            self.a,
            sides=self.sides,
            mask=mask,
            zero_other=self.zero_other,
        )

    def extra_repr(self) -> str:
        """λ, where the function acts, and `a`."""
        return super().extra_repr() + f", a={self.a:g}"


def check_a(a: float) -> None:
    """Raise unless `a` is finite and above 2."""
    if not 2 < a < math.inf:
        raise InputError(f"a= must be above 2 and finite, got {a}")


class _Scad(BandFunction):
    @staticmethod
    def forward(x: Tensor, lambd: float | Tensor, a: float) -> Tensor:
        wide = widen(x)
        wide_lambd = widen_like(lambd, wide)
        soft = soft_part(wide, wide_lambd)
        # the part beyond 2λ; with a second clamp, torch's ONNX exporter would lose an input
        steep = soft + soft.sign() * (soft.abs() - wide_lambd).relu() / (a - 2)
        magnitude = wide.abs()
        passes = (magnitude >= a * wide_lambd) & (magnitude > wide_lambd)
        return narrow(torch.where(passes, wide, steep), x)

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, float | Tensor, float], output: Tensor
    ) -> None:
        ctx.a = inputs[2]
        keep(ctx, output, inputs[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        output, (lambd,) = kept(ctx)
        wide = widen(output)
        wide_lambd = widen_like(lambd, wide)
        live, magnitude = where_nonzero(grad, output), wide.abs()
        steep = (magnitude > wide_lambd) & (magnitude < ctx.a * wide_lambd)
        slope = torch.where(steep, (ctx.a - 1) / (ctx.a - 2), 1.0)
        grad_x = (live * slope).to(output.dtype)
        if not ctx.needs_input_grad[1]:
            return grad_x, None, None
        pull = torch.where(steep, ctx.a / (ctx.a - 2), (magnitude <= wide_lambd).to(wide.dtype))
        return grad_x, sum_to(-wide.sign() * pull * live, lambd), None
