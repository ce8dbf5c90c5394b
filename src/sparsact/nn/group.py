"""Modules that shrink whole groups."""

from typing import Any

import torch
from torch import Tensor

from sparsact._thresholds.arguments import check_threshold, widen
from sparsact._thresholds.group import Dims, Groups, group_softshrink, sparse_group_softshrink
from sparsact.nn.threshold import BandModule, level_text


class GroupSoftshrink(BandModule):
    """Group soft shrinkage as a module; see :func:`sparsact.functional.group_softshrink`.

    Args:
        lambd: the (initial) λ ≥ 0, compared with the norms of the groups.
        learnable: make λ a parameter; its gradient is exact.
        num_parameters: number of λ: 1, or the size of `channel_dim` in the shape of the norms
            (where `dim` has the number of groups along it as its size).
        channel_dim: dim along which λ differs, when there are several.
        dim: the dim, or dims, along which entries form groups.
        group_size: None takes all of `dim` as one group; a number cuts one `dim` into
            contiguous groups of that size.
        zero_other: entries outside the mask become 0.

    ``init_from`` sets the share of *groups* that die.

    Shape:
        any, returned unchanged.

    Example:
        >>> import torch
        >>> GroupSoftshrink(1.0, group_size=2)(torch.tensor([3.0, 4.0, 0.3, 0.4]))
        tensor([2.4000, 3.2000, 0.0000, 0.0000])
        >>> GroupSoftshrink(0.1, learnable=True, num_parameters=64, dim=(2, 3))  # one per map
        GroupSoftshrink(lambd=0.1, learnable=True, num_parameters=64, channel_dim=1, dim=(2, 3))
    """

    def __init__(
        self,
        lambd: float | Tensor = 0.5,
        learnable: bool = False,
        num_parameters: int = 1,
        channel_dim: int = 1,
        *,
        dim: Dims = -1,
        group_size: int | None = None,
        zero_other: bool = False,
    ) -> None:
        super().__init__(lambd, learnable, num_parameters, channel_dim, zero_other=zero_other)
        self.dim = dim
        self.group_size = group_size

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply the function to `x`; only entries where `mask` is True belong to groups."""
        return group_softshrink(x, self.threshold(x), **self._options(), mask=mask)

    def _options(self) -> dict[str, Any]:
        return {"dim": self.dim, "group_size": self.group_size, "zero_other": self.zero_other}

    def _level_shape(self, x: Tensor) -> tuple[int, ...]:
        return Groups(x, self.dim, self.group_size).norm_shape

    def _score(self, sample: Tensor) -> tuple[Tensor, None]:
        groups = Groups(sample, self.dim, self.group_size)
        return groups.norm(groups.split(widen(sample))).reshape(groups.norm_shape), None

    def extra_repr(self) -> str:
        """λ and the groups."""
        size = "" if self.group_size is None else f", group_size={self.group_size}"
        return super().extra_repr() + f", dim={self.dim}" + size


class SparseGroupSoftshrink(BandModule):
    """Sparse-group shrinkage; see :func:`sparsact.functional.sparse_group_softshrink`.

    Args:
        lambd: the (initial) λ₁ ≥ 0, compared with entries.
        learnable: make λ₁ and λ₂ parameters; their gradients are exact.
        num_parameters: number of λ₁, 1 or the number of channels.
        channel_dim: dim of the channels, when there are several λ₁.
        group_lambd: the (initial) λ₂ ≥ 0, compared with the norms of the groups; a single one.
        dim: the dim, or dims, along which entries form groups.
        group_size: None takes all of `dim` as one group; a number cuts one `dim` into
            contiguous groups of that size.
        zero_other: entries outside the mask become 0.

    ``init_from`` multiplies λ₁ and λ₂ by one factor, such that the share of *entries* that come
    out as zero, for either reason, is the one asked for.

    Shape:
        any, returned unchanged.

    Example:
        >>> import torch
        >>> layer = SparseGroupSoftshrink(1.0, group_lambd=1.0, group_size=3)
        >>> layer(torch.tensor([4.0, 5.0, 0.5, 1.3, 0.5, 0.5]))
        tensor([2.4000, 3.2000, 0.0000, 0.0000, 0.0000, 0.0000])
    """

    group_lambd: float | Tensor

    def __init__(
        self,
        lambd: float | Tensor = 0.5,
        learnable: bool = False,
        num_parameters: int = 1,
        channel_dim: int = 1,
        *,
        group_lambd: float = 0.5,
        dim: Dims = -1,
        group_size: int | None = None,
        zero_other: bool = False,
    ) -> None:
        super().__init__(lambd, learnable, num_parameters, channel_dim, zero_other=zero_other)
        check_threshold(group_lambd, "group_lambd")
        start = torch.full((1,), float(group_lambd))
        self.group_lambd = torch.nn.Parameter(start) if learnable else float(group_lambd)
        self.dim = dim
        self.group_size = group_size

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply the function to `x`; only entries where `mask` is True belong to groups."""
        return self._shrink(x, self.threshold(x), self._group_threshold(), mask)

    def _group_threshold(self) -> float | Tensor:
        level = self.group_lambd
        if not isinstance(level, Tensor):
            return level
        return torch.where(level < 0, -level, level).reshape(())

    def _shrink(
        self, x: Tensor, lambd: float | Tensor, group_lambd: float | Tensor, mask: Tensor | None
    ) -> Tensor:
        return sparse_group_softshrink(
            x,
            lambd,
            group_lambd,
            self.dim,
            self.group_size,
            mask=mask,
            zero_other=self.zero_other,
        )

    def _start(self, sample: Tensor, sparsity: float) -> None:
        """Bisect for the factor: the share of zeros grows with it."""
        entry, group = self.threshold(sample), self._group_threshold()
        smallest = max(float(torch.as_tensor(entry).min()), float(group))
        if smallest == 0:
            raise ValueError("init_from multiplies lambd and group_lambd, and finds zeros in both")
        wide = widen(sample)
        low, high = 0.0, float(torch.linalg.vector_norm(wide.double())) / smallest
        for _ in range(60):
            middle = (low + high) / 2
            shrunk = self._shrink(wide, entry * middle, group * middle, None)
            if float((shrunk == 0).double().mean()) < sparsity:
                low = middle
            else:
                high = middle
        self._set("lambd", torch.as_tensor(self.lambd) * high)
        self._set("group_lambd", torch.as_tensor(self.group_lambd) * high)

    def extra_repr(self) -> str:
        """Both thresholds and the groups."""
        size = "" if self.group_size is None else f", group_size={self.group_size}"
        group = f", group_lambd={level_text(self.group_lambd)}, dim={self.dim}"
        return super().extra_repr() + group + size
