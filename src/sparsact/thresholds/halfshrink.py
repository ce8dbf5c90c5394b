"""Half shrinkage: function, autograd function and module."""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

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
from sparsact.thresholds.garrote import lambd_share
from sparsact.thresholds.threshold_module import BandModule
from sparsact.thresholds.tracing import leaf, one_node


@one_node
def halfshrink(
    x: Tensor,
    lambd: float | Tensor = 0.5,
    *,
    sides: Sides = "both",
    mask: Tensor | None = None,
    zero_other: bool = False,
) -> Tensor:
    """Half shrinkage: 0 up to λ, else ``⅔x(1 + cos(⅔·acos(−(3^1.5/4)·u·|x|^−1.5)))``.

    The proximal operator of ``u√|x|`` (the L½ penalty) with the cut-off λ, so
    ``u = (λ/1.5)^1.5``. The output jumps from 0 to ⅔λ at the cut-off.

    Args:
        x: any shape, floating point or complex. Complex entries are shrunk by modulus.
        lambd: λ ≥ 0, the cut-off: a float or a tensor that broadcasts to the shape of `x`.
        sides: ``"positive"`` or ``"negative"`` acts on entries of that sign only.
        mask: boolean, broadcasts to `x`; the function acts where it is True.
        zero_other: entries outside `sides` and `mask` become 0 instead of passing unchanged.

    Returns:
        a tensor of the shape and dtype of `x`. The band is closed: ``|x| = λ`` gives 0 (0 and
        ⅔λ are both minimisers there). λ = 0 is the identity. NaN stays NaN.

    Gradient:
        exact outside the band: with the output y and ``s = (λ/1.5)/|y|``,
        ``∂x = 1/(1 − s^1.5/4)`` and ``∂λ = −sign(y)·(√s/2)·∂x``. Both are 0 in the band; the jump
        contributes nothing. Only the output is kept for backward.

    Raises:
        TypeError: `x` is neither floating point nor complex.
        ValueError: a float λ is negative or not finite, or a tensor does not broadcast.

    Example:
        >>> halfshrink(torch.tensor([-3.0, 1.0, 1.01]), 1.0)
        tensor([-2.8385,  0.0000,  0.6799])

    Source:
        Xu et al., "L1/2 regularization: a thresholding representation theory and a fast
        solver", IEEE TNNLS 23 (2012), theorem 1. Their objective has no ½ before the square, so
        their λ is 2u.
    """
    if is_complex(x):
        shrink = partial(halfshrink, lambd=lambd)
        return by_modulus(x, shrink, sides, mask, zero_other)
    check_input(x, "halfshrink")
    shrunk: Tensor = _Halfshrink.run(x, broadcast_threshold(lambd, x))
    return restrict(x, shrunk, sides, mask, zero_other)


class Halfshrink(BandModule):
    """Half shrinkage as a module; see :func:`sparsact.functional.halfshrink`.

    The arguments are those of :class:`BandModule`. The gradient of a learned λ is exact.

    A learned λ cannot leave 0, where its gradient is 0: the output depends on λ^1.5. Start above
    0.

    Shape:
        any, returned unchanged.

    Example:
        >>> import torch
        >>> Halfshrink(1.0)(torch.tensor([-3.0, 1.0]))
        tensor([-2.8385,  0.0000])
    """

    @leaf
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply the function to `x`, or only where `mask` is True."""
        return halfshrink(
            x, self.threshold(x), sides=self.sides, mask=mask, zero_other=self.zero_other
        )


class _Halfshrink(BandFunction):
    @staticmethod
    def forward(x: Tensor, lambd: float | Tensor) -> Tensor:
        wide = widen(x)
        wide_lambd = widen_like(lambd, wide)
        ratio = lambd_share(wide, wide_lambd)
        # The paper's formula with acos(−a) = π/2 + asin(a). In this form its factor is at most
        # 1, and exactly 1 for λ = 0. The argument a is at most 1/√2, since λ/|x| < 1.
        angle = torch.asin(ratio * ratio.sqrt() / math.sqrt(2)) * (2 / 3)
        loss = torch.sin(angle / 2).square() * (2 / 3) + torch.sin(angle) / math.sqrt(3)
        return narrow(torch.where(wide.abs() <= wide_lambd, 0.0, wide * (1 - loss)), x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float | Tensor], output: Tensor) -> None:
        keep(ctx, output, inputs[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None]:
        output, (lambd,) = kept(ctx)
        wide = widen(output)
        wide_lambd = widen_like(lambd, wide)
        # y = 0 in the band: the result is not used there, but must be finite
        share = wide_lambd / 1.5 / torch.where(wide == 0, wide_lambd + 1, wide.abs())
        root = share.sqrt()
        live = where_nonzero(grad, output) / (1 - share * root / 4)
        grad_x = live.to(output.dtype)
        if not ctx.needs_input_grad[1]:
            return grad_x, None
        return grad_x, sum_to(-wide.sign() * root * live / 2, lambd)
