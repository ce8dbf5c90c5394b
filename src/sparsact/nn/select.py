"""Selection modules."""

from typing import Literal

from torch import Tensor, nn

from sparsact._thresholds.select import check_by, check_k, topk


class TopK(nn.Module):
    """Keep the k largest entries along a dim; see :func:`sparsact.functional.topk`.

    Args:
        k: number kept per row.
        dim: the dim along which entries compete.
        by: ``"value"`` (after relu) or ``"magnitude"``.

    Shape:
        any, returned unchanged.

    Example:
        >>> import torch
        >>> TopK(1)(torch.tensor([[1.0, 3.0], [2.0, -1.0]]))
        tensor([[0., 3.],
                [2., 0.]])
    """

    def __init__(
        self, k: int, dim: int = -1, *, by: Literal["value", "magnitude"] = "value"
    ) -> None:
        super().__init__()
        check_k(k)
        check_by(by)
        self.k = k
        self.dim = dim
        self.by: Literal["value", "magnitude"] = by

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply the function to `x`; only entries where `mask` is True compete."""
        return topk(x, self.k, self.dim, by=self.by, mask=mask)

    def extra_repr(self) -> str:
        """k, the dim and the ranking."""
        return f"k={self.k}, dim={self.dim}, by={self.by!r}"
