"""The non-negative garrote: function, autograd function and module."""

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
from sparsact.thresholds.softshrink import soft_part
from sparsact.thresholds.threshold_module import BandModule
from sparsact.thresholds.tracing import leaf, one_node


@one_node
def garrote(
    x: Tensor,
    lambd: float | Tensor = 0.5,
    *,
    sides: Sides = "both",
    mask: Tensor | None = None,
    zero_other: bool = False,
) -> Tensor:
    """Non-negative garrote: ``x·max(0, 1 − λ²/x²)``.

    The proximal operator of ``¼(y√(y² + 4λ²) − y²) + λ²·asinh(y/2λ)``, ``y = |x|``.

    Args:
        x: any shape, floating point or complex. Complex entries are shrunk by modulus.
        lambd: λ ≥ 0, a float or a tensor that broadcasts to the shape of `x`.
        sides: ``"positive"`` or ``"negative"`` acts on entries of that sign only.
        mask: boolean, broadcasts to `x`; the function acts where it is True.
        zero_other: entries outside `sides` and `mask` become 0 instead of passing unchanged.

    Returns:
        a tensor of the shape and dtype of `x`. The band is closed: ``|x| = λ`` gives 0, and
        ``x = λ = 0`` gives 0 too (``pywt.threshold`` gives NaN there). NaN stays NaN.

    Gradient:
        exact: ``∂x = 1 + λ²/x²``, ``∂λ = −2λ/x``; both 0 in the band. Only the output is kept for
        backward, because it determines x outside the band.

    Raises:
        TypeError: `x` is neither floating point nor complex.
        ValueError: a float λ is negative or not finite, or a tensor does not broadcast.

    Example:
        >>> garrote(torch.tensor([-2.0, 0.2, 1.0, 4.0]), 1.0)
        tensor([-1.5000,  0.0000,  0.0000,  3.7500])

    Source:
        Breiman, "Better subset regression using the nonnegative garrote", Technometrics 37
        (1995); Gao, "Wavelet shrinkage denoising using the non-negative garrote", JCGS 7 (1998).
    """
    if is_complex(x):
        shrink = partial(garrote, lambd=lambd)
        return by_modulus(x, shrink, sides, mask, zero_other)
    check_input(x, "garrote")
    shrunk: Tensor = _Garrote.run(x, broadcast_threshold(lambd, x))
    return restrict(x, shrunk, sides, mask, zero_other)


class Garrote(BandModule):
    """Non-negative garrote as a module; see :func:`sparsact.functional.garrote`.

    The arguments are those of :class:`BandModule`. The gradient of a learned λ is exact.

    A learned λ cannot leave 0, where its gradient is 0: the output depends on λ². Start above 0.

    Shape:
        any, returned unchanged.

    Example:
        >>> import torch
        >>> Garrote(1.0)(torch.tensor([-2.0, 0.2]))
        tensor([-1.5000,  0.0000])
    """

    @leaf
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply the function to `x`, or only where `mask` is True."""
        return garrote(
            x, self.threshold(x), sides=self.sides, mask=mask, zero_other=self.zero_other
        )


class _Garrote(BandFunction):
    @staticmethod
    def forward(x: Tensor, lambd: float | Tensor) -> Tensor:
        wide = widen(x)
        wide_lambd = widen_like(lambd, wide)
        # (|x| − λ)(1 + λ/|x|): 1 − λ²/x² loses digits by cancellation near the edge
        return narrow(soft_part(wide, wide_lambd) * (1 + lambd_share(wide, wide_lambd)), x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float | Tensor], output: Tensor) -> None:
        keep(ctx, output, inputs[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None]:
        output, (lambd,) = kept(ctx)
        wide = _nonzero(widen(output))
        wide_lambd = widen_like(lambd, wide)
        live = where_nonzero(grad, output)
        # λ/|x| for the x that solves y = x − λ²/x
        ratio = 2 * wide_lambd / (wide.abs() + torch.hypot(wide, 2 * wide_lambd))
        grad_x = (live * (1 + ratio * ratio)).to(output.dtype)
        if not ctx.needs_input_grad[1]:
            return grad_x, None
        return grad_x, sum_to(-2 * wide.sign() * ratio * live, lambd)


def lambd_share(wide: Tensor, wide_lambd: Tensor) -> Tensor:
    """``λ/|x|`` outside the band, 0 inside."""
    magnitude = wide.abs()
    inside = magnitude <= wide_lambd
    return torch.where(inside, 0.0, wide_lambd / torch.where(inside, 1.0, magnitude))


def _nonzero(wide: Tensor) -> Tensor:
    """`wide` with 1 in place of 0: every formula is finite there, and its result is not used."""
    return torch.where(wide == 0, 1.0, wide)
