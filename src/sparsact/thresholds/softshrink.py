"""Soft shrinkage: function, autograd function and module."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from sparsact.kernels.definition import define
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
from sparsact.thresholds.fused_dispatch import as_tensor, backward_is_fused, forward_is_fused
from sparsact.thresholds.threshold_module import BandModule
from sparsact.thresholds.tracing import leaf, one_node

_aten = torch.ops.aten
_sparsact = torch.ops.sparsact


@one_node
def softshrink(
    x: Tensor,
    lambd: float | Tensor = 0.5,
    *,
    sides: Sides = "both",
    mask: Tensor | None = None,
    zero_other: bool = False,
) -> Tensor:
    """Soft shrinkage: ``sign(x)·max(|x| − λ, 0)``, the proximal operator of ``λ|x|``.

    Args:
        x: any shape, floating point or complex. Complex entries are shrunk by modulus.
        lambd: λ ≥ 0, a float or a tensor that broadcasts to the shape of `x`.
        sides: ``"positive"`` or ``"negative"`` acts on entries of that sign only.
        mask: boolean, broadcasts to `x`; the function acts where it is True.
        zero_other: entries outside `sides` and `mask` become 0 instead of passing unchanged.
            With ``sides="positive"`` this is the one-sided ``relu(x − λ)``.

    Returns:
        a tensor of the shape and dtype of `x`. Entries are compared with λ in float32 (in
        float64 for float64), without rounding λ. The band is closed: ``|x| = λ`` gives 0. NaN
        stays NaN.

    Gradient:
        exact. ``∂x = 1[|x| > λ]``, ``∂λ = −sign(x)·1[|x| > λ]``. With λ = 0 the gradient at x = 0
        is 0. Backward reads the support from the output, so it always agrees with forward
        (torch's own softshrink compares in float32 in forward but in bfloat16 in backward). Only
        the output is kept for backward. Changing it in place before backward raises, as after
        ``torch.relu``.

    Raises:
        TypeError: `x` is neither floating point nor complex.
        ValueError: a float λ is negative or not finite, or a tensor does not broadcast.

    Example:
        >>> softshrink(torch.tensor([-2.0, 0.2, 0.5, 1.0]), 0.5)
        tensor([-1.5000,  0.0000,  0.0000,  0.5000])

    Source:
        Donoho, "De-noising by soft-thresholding", IEEE Trans. Inf. Theory 41 (1995).
    """
    if is_complex(x):
        shrink = partial(softshrink, lambd=lambd)
        return by_modulus(x, shrink, sides, mask, zero_other)
    check_input(x, "softshrink")
    lambd = broadcast_threshold(lambd, x)
    shrunk: Tensor = _Softshrink.run(x, lambd)
    return restrict(x, shrunk, sides, mask, zero_other)


class Softshrink(BandModule):
    """Soft shrinkage as a module; see :func:`sparsact.functional.softshrink`.

    The arguments are those of :class:`BandModule`. The gradient of a learned λ is exact.

    Shape:
        any, returned unchanged.

    Example:
        >>> import torch
        >>> Softshrink(0.5)(torch.tensor([-2.0, 0.2]))
        tensor([-1.5000,  0.0000])
        >>> Softshrink(0.1, learnable=True, num_parameters=64, channel_dim=-1)
        Softshrink(lambd=0.1, learnable=True, num_parameters=64, channel_dim=-1)
    """

    @leaf
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply the function to `x`, or only where `mask` is True."""
        return softshrink(
            x, self.threshold(x), sides=self.sides, mask=mask, zero_other=self.zero_other
        )


class _Softshrink(BandFunction):
    @staticmethod
    def forward(x: Tensor, lambd: float | Tensor) -> Tensor:
        learned, half = isinstance(lambd, Tensor), x.dtype in (torch.bfloat16, torch.float16)
        if (learned or half) and forward_is_fused(x, lambd):
            return _sparsact.softshrink(x, as_tensor(lambd, x))  # type: ignore[no-any-return]
        if learned or torch.compiler.is_compiling():
            return _soft(x, lambd)  # torch's own, when decomposed, turns NaN into 0
        # torch's own takes one pass; in half precision its releases round λ in different ways
        return narrow(_aten.softshrink(widen(x), lambd), x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float | Tensor], output: Tensor) -> None:
        keep(ctx, output, inputs[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None]:
        output, (lambd,) = kept(ctx)
        if not ctx.needs_input_grad[1]:
            return where_nonzero(grad, output), None
        fused = backward_is_fused(grad, output, lambd)
        return (_sparsact.softshrink_backward if fused else _soft_back)(grad, output, lambd)


def _soft(x: Tensor, lambd: float | Tensor) -> Tensor:
    wide = widen(x)
    return narrow(soft_part(wide, widen_like(lambd, wide)), x)


def _soft_back(grad: Tensor, output: Tensor, lambd: Tensor) -> tuple[Tensor, Tensor]:
    grad_x = where_nonzero(grad, output)
    return grad_x, sum_to(-grad_x * output.sign(), lambd)


def soft_part(wide: Tensor, wide_lambd: Tensor) -> Tensor:
    """``S_λ(x)`` as ``x − clamp(x, −λ, λ)``: exactly 0 in the closed band and nowhere else."""
    return wide - torch.clamp(wide, -wide_lambd, wide_lambd)


define(
    "softshrink",
    "(Tensor x, Tensor lambd) -> Tensor",
    _soft,
    lambda x, lambd: torch.empty_like(x),
    cpu="shrink",
    gpu="shrink",
)
define(
    "softshrink_backward",
    "(Tensor grad, Tensor output, Tensor lambd) -> (Tensor, Tensor)",
    _soft_back,
    lambda grad, output, lambd: (torch.empty_like(output), lambd.new_empty(lambd.shape)),
    cpu="shrink",
    gpu="shrink",
)
