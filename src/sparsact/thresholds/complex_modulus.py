"""Thresholds on complex tensors: they shrink the modulus and keep the phase."""

from collections.abc import Callable

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.thresholds.arguments import Sides, restrict, widen_like


def is_complex(x: object) -> bool:
    """Whether `x` is a complex tensor; complex32 raises TypeError."""
    if not isinstance(x, Tensor) or not x.is_complex():
        return False
    if x.dtype == torch.complex32:
        raise TypeError("complex32 is not supported; convert it with .to(torch.complex64)")
    return True


def moduli(x: Tensor) -> Tensor:
    """``|x|`` of a complex tensor; a real tensor is returned unchanged, with its signs.

    The gradient of ``|z|`` is ``z/|z|`` in the convention of torch, and 0 at z = 0. A subnormal
    modulus counts as 0, because torch's gradient of it is NaN.
    """
    if not is_complex(x):
        return x
    size = x.detach().abs()
    return torch.where(size < torch.finfo(size.dtype).tiny, 0.0, x).abs()


def by_modulus(
    x: Tensor,
    shrink: Callable[[Tensor], Tensor],
    sides: Sides = "both",
    mask: Tensor | None = None,
    zero_other: bool = False,
) -> Tensor:
    """``f(|z|)·z/|z|`` for a real function f with f(0) = 0; 0 at z = 0, with the gradient 0.

    Args:
        x: complex64 or complex128.
        shrink: f, on a real tensor of the shape of `x`.
        sides: must be ``"both"``.
        mask: boolean, broadcasts to `x`; the function acts where it is True.
        zero_other: entries outside `mask` become 0 instead of passing unchanged.
    """
    check_sides(sides)
    size = moduli(x)
    return restrict(x, scale(x, ratio(shrink(size), size)), "both", mask, zero_other)


def check_sides(sides: str) -> None:
    """Raise unless `sides` is ``"both"``, the only value that has a meaning for complex input."""
    if sides != "both":
        raise InputError(f"sides={sides!r} selects a sign, but complex numbers have none")


def ratio(shrunk: Tensor, size: Tensor) -> Tensor:
    """``shrunk/size`` for sizes ≥ 0; where it is undefined, 1 for a result above 0, else 0."""
    usable = (size >= torch.finfo(size.dtype).tiny) & (size < torch.inf)
    quotient = shrunk / torch.where(usable, size, 1.0)
    return torch.where(usable, quotient, (shrunk != 0).to(quotient.dtype))


def scale(x: Tensor, factor: Tensor) -> Tensor:
    """`x` times a real factor; the complex product would turn an infinite part into NaN."""
    return torch.complex(x.real * factor, x.imag * factor)


def clip_modulus(x: Tensor, lambd: float | Tensor) -> Tensor:
    """``z·min(1, λ/|z|)``; at ``|z| = λ`` the gradient goes to λ, as in the real function."""
    finite = _same_phase(x)
    size = moduli(finite)
    level = widen_like(lambd, size)
    outside = x.abs() >= level
    factor = torch.where(outside, level / torch.where(outside & (size > 0), size, 1.0), 1.0)
    return scale(finite, factor)


def _same_phase(x: Tensor) -> Tensor:
    """`x`, where its modulus is infinite replaced by a number of the same phase."""
    endless = x.abs() == torch.inf
    infinite_part = x.real.isinf() | x.imag.isinf()

    def part(value: Tensor) -> Tensor:
        unit = torch.copysign(value.isinf().to(value.dtype), value)
        small = torch.where(infinite_part & ~value.isnan(), unit, value / 4)
        return torch.where(endless, small, value)

    return torch.complex(part(x.real), part(x.imag))
