"""The noise and the thresholds of an array that is read tile by tile."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from sparsact.denoise.noise_estimate import MEDIAN_OF_NORMAL, has_noise, rounding
from sparsact.denoise.threshold_rules import bayes_threshold
from sparsact.denoise.tile_plan import Part, TilePlan
from sparsact.denoise.wavelet_transform import decompose, keys


def rows_for(plan: TilePlan, dtype: torch.dtype) -> list["Row"]:
    """Room for the finest coefficients: two rows for the two phases of a signal."""
    return [Row(plan.most_finest, dtype) for _ in range(2 if len(plan.sizes) == 1 else 1)]


class Row:
    """Numbers that arrive in pieces, in one place that does not fragment the memory."""

    def __init__(self, capacity: int, dtype: torch.dtype) -> None:
        self.values = torch.empty(capacity, dtype=dtype).numpy()
        self.size = 0

    def append(self, piece: Tensor) -> None:
        """Add numbers."""
        self.values[self.size : self.size + len(piece)] = piece.numpy()
        self.size += len(piece)

    def median_above(self, floor: float) -> float:
        """The median of the numbers above `floor`, or 0; the order of the numbers is lost."""
        values = self.values[: self.size]
        below = int(np.count_nonzero(values <= floor))
        count = len(values) - below
        if count == 0:
            return 0.0
        middle = [below + (count - 1) // 2, below + count // 2]
        values.partition(middle)
        return float(values[middle].astype(np.float64).mean())


@dataclass
class TileStatistics:
    """What the noise and the thresholds of a block are computed from.

    Attributes:
        finest: the finest diagonal coefficients, for each phase of a signal; empty if the noise
            is known.
        squares: the sum of squares of each band, by level (1 is finest) and name.
        counts: the number of coefficients of each band.
        floor: the largest magnitude that a zero can have after rounding.
        can_be_noise: whether any tile has noise.
    """

    finest: list[Row]
    squares: dict[tuple[int, str], float] = field(default_factory=dict)
    counts: dict[tuple[int, str], float] = field(default_factory=dict)
    floor: float = 0.0
    can_be_noise: bool = False

    @classmethod
    def merged(cls, parts: Sequence["TileStatistics"]) -> "TileStatistics":
        """The statistics of several parts, in their order, as if one had counted all."""
        rows = [
            Row(sum(row.size for row in same), torch.from_numpy(same[0].values[:0]).dtype)
            for same in zip(*(part.finest for part in parts), strict=True)
        ]
        total = cls(rows)
        for part in parts:
            for row, piece in zip(rows, part.finest, strict=True):
                row.append(torch.from_numpy(piece.values[: piece.size]))
            for key, square in part.squares.items():
                total.squares[key] = total.squares.get(key, 0.0) + square
                total.counts[key] = total.counts.get(key, 0) + part.counts[key]
            total.floor = max(total.floor, part.floor)
            total.can_be_noise |= part.can_be_noise
        return total

    def add(self, x: Tensor, part: Part, plan: TilePlan) -> None:
        """Count the coefficients of one part; `x` is the tile before it."""
        ndim = len(plan.sizes)
        bands = decompose(x, plan.bank, plan.depths, ndim, stationary=True)
        for level, details in zip(range(len(bands.details), 0, -1), bands.details, strict=True):
            place = plan.owned(part, level)
            for name, band in zip(keys(ndim, bands.is_split(level)), details, strict=True):
                own = band[place]
                key = level, name
                self.squares[key] = self.squares.get(key, 0.0) + _square_sum(own)
                self.counts[key] = self.counts.get(key, 0) + own.numel()
        fine = bands.details[-1][-1][plan.finest(part)].abs()
        for phase, row in enumerate(self.finest):
            own = fine[(slice(phase, None, 2),) * ndim].flatten()
            row.append(own[:: plan.thinning])
        self.floor = max(self.floor, float(rounding(bands)))
        noisy = has_noise(x, ndim)
        self.can_be_noise |= noisy is None or bool(noisy.all())

    def sigma(self) -> float:
        """The noise, as ``robust_sigma`` estimates it from all coefficients."""
        if not self.can_be_noise:
            return 0.0
        estimates = [row.median_above(self.floor) for row in self.finest]
        self.finest.clear()
        return sum(estimates) / len(estimates) / MEDIAN_OF_NORMAL

    def thresholds(
        self, threshold: str | float, sigma: float, samples: int, plan: TilePlan
    ) -> list[float | Tensor | Mapping[str, float | Tensor]]:
        """λ of each band, coarsest level first."""
        by_level: list[dict[str, float]] = [{} for _ in range(max(plan.depths))]
        for (level, name), square in self.squares.items():
            if isinstance(threshold, (int, float)):
                lambd = float(threshold)
            elif threshold == "visu":
                lambd = sigma * math.sqrt(2 * math.log(samples))
            else:
                excess = square / self.counts[level, name] - sigma**2
                numbers = (sigma**2, excess, math.sqrt(square))
                lambd = float(bayes_threshold(*torch.tensor(numbers, dtype=torch.float64)))
            by_level[-level][name] = lambd
        return list(by_level)


def _square_sum(x: Tensor) -> float:
    return float(torch.linalg.vector_norm(x, dtype=torch.float64)) ** 2
