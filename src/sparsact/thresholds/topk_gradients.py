"""Gradients of a selection: straight-through, and of the choice under noise."""

from typing import Any, Literal, NoReturn, get_args

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.thresholds.arguments import as_integer, check_positive, widen
from sparsact.thresholds.forward_mode import DifferentiableFunction

SelectionGradient = Literal["exact", "straight_through", "perturbed"]


def check_gradient(gradient: str, sigma: float, samples: int) -> None:
    """Raise unless `gradient` is the name of one, σ is positive and `samples` at least 1."""
    if gradient not in get_args(SelectionGradient):
        raise InputError(
            f"gradient= must be one of {get_args(SelectionGradient)}, got {gradient!r}"
        )
    check_positive(sigma, "sigma")
    if as_integer(samples, "samples") < 1:
        raise InputError(f"samples= must be at least 1, got {samples}")


def select_straight_through(x: Tensor, live: Tensor) -> Tensor:
    """`x` where `live` is True, else 0; the gradient passes as if all were selected."""
    result: Tensor = _StraightThrough.run(x, live)
    return result


def select_perturbed(
    x: Tensor,
    live: Tensor,
    score: Tensor,
    entries: int,
    dim: int,
    by: str,
    sigma: float,
    samples: int,
) -> Tensor:
    """`x` where `live` is True, else 0; the gradient also estimates how the choice changes.

    Args:
        x: real, any shape.
        live: the selected entries.
        score: by which entries compete; −inf where they do not.
        entries: the number of entries chosen along `dim`.
        dim: the dim along which entries compete.
        by: ``"magnitude"`` if the score is ``|x|``.
        sigma: σ of the noise.
        samples: the number of draws.
    """
    if x.is_complex():
        raise InputError("gradient='perturbed' needs real inputs: use 'straight_through'")
    result: Tensor = _Perturbed.run(x, live, score, (entries, dim, by, sigma, samples))
    return result


class _StraightThrough(DifferentiableFunction):
    @staticmethod
    def forward(x: Tensor, live: Tensor) -> Tensor:
        return torch.where(live, x, 0.0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None

    @classmethod
    def tangent(cls, ctx: Any, x: Tensor, *levels: Any) -> Tensor:
        """The tangent of the input: the Jacobian is taken to be the identity."""
        return x.clone()


class _Perturbed(DifferentiableFunction):
    @staticmethod
    def forward(x: Tensor, live: Tensor, score: Tensor, options: tuple[Any, ...]) -> Tensor:
        return torch.where(live, x, 0.0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.options = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        x, live, score = ctx.saved_tensors
        entries, dim, by, sigma, samples = ctx.options
        wide, pull = widen(score), widen(grad * x)
        drift = torch.zeros_like(wide)
        for _ in range(samples):
            noise = torch.randn_like(wide)
            chosen = (wide + sigma * noise).topk(entries, dim=dim, sorted=False).indices
            change = pull.gather(dim, chosen).sum(dim, keepdim=True)
            # the unperturbed choice as a baseline: it has mean 0 and lowers the variance
            drift += noise * (change - (pull * live).sum(dim, keepdim=True))
        drift /= samples * sigma
        if by == "magnitude":
            drift = drift * x.sign()
        return (grad * live + drift).to(x.dtype), None, None, None

    @classmethod
    def tangent(cls, ctx: Any, x: Tensor, *levels: Any) -> NoReturn:
        """The estimate is of a transposed product only."""
        raise InputError("gradient='perturbed' has no forward mode: use 'straight_through'")
