"""The check of optimality that needs nothing but a penalty's prox."""

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.coding.arguments import (
    as_dictionary,
    check_groups,
    check_options,
    check_signals,
    starting_codes,
    weights_for,
)
from sparsact.coding.duality import real_rows
from sparsact.coding.problem import Problem
from sparsact.penalties import Penalty

_SMALL = 1e-6


@torch.no_grad()
def subgradient_distance(
    x: Tensor,
    dictionary: Tensor | nn.Module,
    penalty: Penalty,
    codes: Tensor,
    *,
    positive: bool = False,
    step: float | None = None,
) -> Tensor:
    """How far each code is from optimal: the distance of 0 to the subgradients at z.

    The subgradients are those of ``½‖x − D(z)‖² + penalty(z)``. Their least norm is the limit for
    small t of ``‖z − prox_t(z + t·Dᴴ(x − D(z)))‖/t``, which is computed for one small t. For L1 it
    is ``|g + λ·sign(z)|`` at an entry that is not zero, and ``max(|g| − λ, 0)`` at a zero. For a
    convex penalty the result is at most the distance, at any t, and 0 at the optimum only. For
    another penalty 0 means a stationary point.

    Args:
        x: signals, as in :func:`sparse_code`.
        dictionary: as in :func:`sparse_code`.
        penalty: any with a prox.
        codes: z, in the shape that :func:`sparse_code` returns.
        positive: whether codes must not be negative.
        step: t > 0. By default z would move by about 10⁻⁶ of its size. Where the prox is iterated
            up to a `tol`, as for LatentGroupLasso, it is by its size, because the error of the prox
            is divided by t too.

    Returns:
        a distance for each signal, (…,), in float64; for an operator (batch,). In units of the
        gradient, ``Dᴴ(x − D(z))``.

    Raises:
        InputError: as :func:`sparse_code`; codes of another shape or a `step` that is not above 0.

    Example:
        >>> import sparsact as sa
        >>> x, atoms = torch.tensor([[3.0, 1.0]]), torch.eye(2)
        >>> subgradient_distance(x, atoms, sa.L1(0.5), torch.tensor([[2.5, 0.5]])).round(decimals=6)
        tensor([0.], dtype=torch.float64)
        >>> subgradient_distance(x, atoms, sa.L1(0.5), torch.tensor([[2.5, 0.0]])).round(decimals=6)
        tensor([0.5000], dtype=torch.float64)

    Source:
        Bertrand et al., "Beyond L1: faster and better sparse models with skglm" (2022), section 2,
        for the distance as a criterion; Parikh & Boyd, "Proximal algorithms" (2014), section 4.2,
        for the step.
    """
    check_options(x, penalty, "fista", 1, 0.0, "implicit", positive)
    if step is not None and not step > 0:
        raise InputError(f"step= must be above 0, got {step}")
    signals, operator = check_signals(x, as_dictionary(dictionary))
    batch = starting_codes(signals, operator, codes, x, name="codes")
    check_groups(penalty, batch)
    problem = Problem.of(signals, operator, weights_for(penalty, x, batch), positive)
    _, ascent = problem.ascent(batch)
    wide = torch.promote_types(batch.dtype, torch.float64)
    batch, ascent = batch.to(wide), ascent.to(wide)
    if step is None:
        largest, steepest = (float(values.abs().amax()) for values in (batch, ascent))
        reach = 1.0 if hasattr(penalty, "tol") else _SMALL
        step = reach * largest / steepest if largest > 0 and steepest > 0 else 1.0
    moved = batch - problem.prox(batch + step * ascent, step)
    distance: Tensor = torch.linalg.vector_norm(real_rows(moved), dim=1) / step
    return distance.reshape(x.shape[:-1]) if batch.ndim == 2 else distance
