"""Selection of the k largest entries of each row: function and module."""

from typing import Any, Literal

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.thresholds.arguments import as_integer, check_input, check_mask
from sparsact.thresholds.complex_modulus import is_complex
from sparsact.thresholds.topk_gradients import (
    SelectionGradient,
    check_gradient,
    select_perturbed,
    select_straight_through,
)
from sparsact.thresholds.tracing import Unscriptable, leaf, one_node

By = Literal["value", "magnitude"]


@one_node
def topk(
    x: Tensor,
    k: int | float,
    dim: int = -1,
    *,
    by: By = "value",
    mask: Tensor | None = None,
    zero_other: bool = False,
    gradient: SelectionGradient = "exact",
    sigma: float = 0.1,
    samples: int = 64,
) -> Tensor:
    """Keep the k largest entries along `dim`, set the others to zero.

    Args:
        x: any shape, floating point; complex with ``by="magnitude"``.
        k: number of entries kept per row; a row of at most k entries is kept completely. A float
            in (0, 1) is the share of the entries along `dim` that is kept, at least one.
        dim: the dim along which entries compete.
        by: ``"value"`` applies relu and keeps the k largest values, as sparse autoencoders do;
            if fewer than k values are positive, fewer entries are kept. ``"magnitude"`` keeps
            the k largest ``|x|`` with their sign.
        mask: boolean, broadcasts to `x`; only entries where it is True compete.
        zero_other: entries outside `mask` become 0 instead of passing unchanged.
        gradient: ``"exact"``, ``"straight_through"`` or ``"perturbed"``; see below.
        sigma: σ > 0 of the perturbed gradient, in the units of `x`.
        samples: the number of draws of the perturbed gradient, ≥ 1. Each draw is one more
            selection in backward.

    Returns:
        a tensor of the shape and dtype of `x`. At most k entries of a row are kept; among equal
        entries, ``torch.topk`` chooses. NaN stays NaN, and counts among the k.

    Gradient:
        ``"exact"``: ``∂x = 1`` on the kept entries (with ``by="value"`` on those above 0), 0 on the
        others. It ignores that a change of `x` can change the choice.
        ``"straight_through"``: ``∂x = 1`` on every entry that competes, a pseudo-gradient.
        ``"perturbed"``: the exact gradient, plus a Monte-Carlo estimate of how the choice changes:
        that of ``x·E[1(chosen from x + σz)]`` with z normal. It is random, and the gradient of a
        smoothed function, not of this one. It has no forward mode.

    Raises:
        TypeError: `x` is neither floating point nor complex, or k is neither an integer nor a
            share in (0, 1).
        ValueError: k or `samples` is too small, σ is not positive, `by` or `gradient` is unknown,
            or the perturbed gradient of a complex input is requested.

    Example:
        >>> topk(torch.tensor([3.0, -5.0, 1.0, 2.0]), 2)
        tensor([3., 0., 0., 2.])
        >>> topk(torch.tensor([3.0, -5.0, 1.0, 2.0]), 2, by="magnitude")
        tensor([ 3., -5.,  0.,  0.])

    Source:
        Makhzani & Frey, "k-Sparse Autoencoders" (2014); Gao et al., "Scaling and evaluating
        sparse autoencoders" (2024), sec. 2.3. For the perturbed gradient Berthet et al., "Learning
        with differentiable perturbed optimizers" (2020), proposition 3.1.
    """
    if not is_complex(x):
        check_input(x, "topk")
    k = check_selection(k, by)
    check_gradient(gradient, sigma, samples)
    values, score = ranked(x, by, mask)
    size = x.shape[dim] if x.ndim else 1
    chosen = score.topk(min(entries_kept(k, size), size), dim=dim, sorted=False).indices
    keep = torch.zeros_like(x, dtype=torch.bool).scatter(dim, chosen, 1)
    if gradient == "exact":
        return select(x, values, keep, mask, zero_other)
    live = x.isnan() | (keep & (values != 0))
    if gradient == "straight_through":
        result = select_straight_through(x, live)
    else:
        competing = torch.where(score < 0, -torch.inf, x if by == "value" else score)
        result = select_perturbed(x, live, competing, chosen.shape[dim], dim, by, sigma, samples)
    return result if mask is None else torch.where(mask, result, 0.0 if zero_other else x)


class TopK(Unscriptable):
    """Keep the k largest entries along a dim; see :func:`sparsact.functional.topk`.

    The arguments are those of the function.

    Shape:
        any, returned unchanged.

    Example:
        >>> import torch
        >>> TopK(1)(torch.tensor([[1.0, 3.0], [2.0, -1.0]]))
        tensor([[0., 3.],
                [2., 0.]])
    """

    def __init__(
        self,
        k: int | float,
        dim: int = -1,
        *,
        by: By = "value",
        gradient: SelectionGradient = "exact",
        sigma: float = 0.1,
        samples: int = 64,
    ) -> None:
        super().__init__()
        self.k: Any = check_selection(k, by)  # an integer or a share
        self.dim = as_integer(dim, "dim")
        self.by: By = by
        check_gradient(gradient, sigma, samples)
        self.gradient: SelectionGradient = gradient
        self.sigma = sigma
        self.samples = samples

    @leaf
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply the function to `x`; only entries where `mask` is True compete."""
        return topk(
            x,
            self.k,
            self.dim,
            by=self.by,
            mask=mask,
            gradient=self.gradient,
            sigma=self.sigma,
            samples=self.samples,
        )

    def extra_repr(self) -> str:
        """k, the dim, the ranking and, unless it is exact, the gradient."""
        text = f"k={self.k}, dim={self.dim}, by={self.by!r}"
        return text if self.gradient == "exact" else f"{text}, gradient={self.gradient!r}"


def check_selection(k: Any, by: str) -> int | float:
    """Return `k` as an integer ≥ 0 of any type or a share in (0, 1), and check `by`."""
    if by not in ("value", "magnitude"):
        raise InputError(f"by= must be 'value' or 'magnitude', got {by!r}")
    if isinstance(k, float) or getattr(getattr(k, "dtype", None), "is_floating_point", False):
        if not 0 < k < 1:
            raise TypeError(f"k= must be an integer, or a float in (0, 1) as a share, got {k}")
        return float(k)
    count = as_integer(k, "k")
    if count < 0:
        raise InputError(f"k= must not be negative, got {count}")
    return count


def entries_kept(k: int | float, size: int) -> int:
    """The number k, or the share k of `size` entries, rounded; at least 1 of a share."""
    return k if isinstance(k, int) else max(1, int(k * size + 0.5))


def ranked(x: Tensor, by: By, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """The values that kept entries take, and the score by which entries compete."""
    if by == "value" and x.is_complex():
        raise InputError(
            "by='value' orders values, but complex numbers have no order: use 'magnitude'"
        )
    values = x.relu() if by == "value" else x
    score = values.detach().abs()
    if mask is not None:
        check_mask(mask, x)
        score = torch.where(mask, score, -1.0)
    return values, score


def select(
    x: Tensor, values: Tensor, keep: Tensor, mask: Tensor | None, zero_other: bool
) -> Tensor:
    """`values` where `keep` is True, else 0; outside `mask`, `x` or 0."""
    result = torch.where(x.isnan() | keep, values, 0.0)  # isnan first: it has the strides of x
    if mask is None:
        return result
    return torch.where(mask, result, 0.0 if zero_other else x)
