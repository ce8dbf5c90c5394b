"""Rounding a weight one input at a time; later inputs make up for the errors of earlier ones."""

from collections.abc import Callable

import torch
from torch import Tensor

from sparsact._common.errors import InputError

RoundRows = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Takes rows (n, out); returns what is stored for each, and the rows that this stands for."""

_DAMPING = 0.01  # of the mean square of an input
_AT_A_TIME = 128  # inputs whose errors are passed on to all later ones together


def rounded_in_turn(weight_t: Tensor, input_moments: Tensor, round_rows: RoundRows) -> Tensor:
    """Round the rows of a weight in turn, and correct the rows that are left after each.

    The error of the output is ``E‖(Ŵ − W)·x‖²``, so inputs that occur together can cancel each
    other's errors: after an input's row is rounded, the best change of all later rows follows from
    the inverse of E[x·xᵀ]. The strongest inputs come first. Blocks of weights that share a scale
    lie within a row, so the order is free.

    Args:
        weight_t: (in, out) float32.
        input_moments: (in, in), E[x·xᵀ].
        round_rows: rounds rows; called with one at a time.

    Returns:
        what `round_rows` stores, one row for each input.

    Raises:
        InputError: the moments are not of that shape, or not finite.

    Source:
        Frantar et al. 2023, GPTQ: accurate post-training quantization.
    """
    inputs = len(weight_t)
    if input_moments.shape != (inputs, inputs) or not bool(input_moments.isfinite().all()):
        raise InputError(
            f"input_moments= must be finite and of shape ({inputs}, {inputs}), got "
            f"{tuple(input_moments.shape)}"
        )
    order = input_moments.diagonal().argsort(descending=True, stable=True)
    factor = _inverse_factor(input_moments[order][:, order])
    left = weight_t[order]
    rows: list[Tensor] = []
    for start in range(0, inputs, _AT_A_TIME):
        stop = min(start + _AT_A_TIME, inputs)
        errors = torch.empty_like(left[start:stop])
        for i in range(start, stop):
            stored, values = round_rows(left[i : i + 1])
            rows.append(stored)
            errors[i - start] = (left[i] - values[0]) / factor[i, i]
            left[i + 1 : stop] -= torch.outer(factor[i, i + 1 : stop], errors[i - start])
        left[stop:] -= factor[start:stop, stop:].t() @ errors
    return torch.cat(rows)[order.argsort()]


def _inverse_factor(moments: Tensor) -> Tensor:
    """The upper triangular U with ``Uᵀ·U`` the inverse of the moments, which are damped."""
    damped = moments.double()
    size = damped.diagonal().mean()
    damped.diagonal().add_(torch.where(size > 0, _DAMPING * size, 1.0))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    factor: Tensor = torch.linalg.cholesky(inverse, upper=True).float()
    return factor
