"""Shards of activations: rows that are read on demand, and their place in a file."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsact._common.errors import InputError

GAP = 64
"""Chosen rows that are nearer than this are read together, with those between."""


@dataclass(frozen=True)
class Shard:
    """Some rows, which are read on demand.

    Attributes:
        rows: number of rows.
        width: width of each row.
        take: returns the rows from a start to a stop index, as (rows, width).
        source: the file they are in, or another name for where they come from.
        first: the place of the first row there.
        without: rows of `take` that are left out, in ascending order.
    """

    rows: int
    width: int
    take: Callable[[int, int], Tensor]
    source: str = "the data"
    first: int = 0
    without: Sequence[int] = ()

    def read(self) -> Tensor:
        """All rows of the shard.

        Raises:
            InputError: a row has NaN or infinity; the message names the file and the row.
        """
        return self.part(0, self.rows)

    def part(self, start: int, stop: int) -> Tensor:
        """The rows from `start` to `stop`, checked in the same way."""
        if start == stop:
            return self.take(0, 0)
        begin, end = self.place(start), self.place(stop - 1) + 1
        gone = self.without[bisect_left(self.without, begin) : bisect_left(self.without, end)]
        rows = self.take(begin, end)
        if gone:
            kept = torch.ones(len(rows), dtype=torch.bool)
            kept[torch.tensor(gone) - begin] = False
            rows = rows[kept]
        return self._checked(rows, lambda row: self.place(start + row))

    def at(self, places: Sequence[int]) -> Tensor:
        """The rows at some ascending places of `take`, checked in the same way."""
        chosen = torch.tensor(places)
        groups = chosen.tensor_split((chosen.diff() > GAP).nonzero().flatten() + 1)
        blocks = [
            self.take(int(group[0]), int(group[-1]) + 1)[group - group[0]] for group in groups
        ]
        rows = torch.cat(blocks)
        return self._checked(rows, lambda row: places[row])

    def _checked(self, rows: Tensor, place_of: Callable[[int], int]) -> Tensor:
        bad = first_not_finite(rows)
        if bad is not None:
            raise InputError(
                f"row {self.first + place_of(bad)} of {self.source} has NaN or infinity (rows "
                "count from 0): remove such rows"
            )
        return rows

    def place(self, row: int) -> int:
        """The index in `take` of a row of the shard."""
        return row + bisect_right(range(len(self.without)), row, key=self._before)

    def _before(self, index: int) -> int:
        """The number of kept rows before a left-out one."""
        return self.without[index] - index


def first_not_finite(rows: Tensor) -> int | None:
    """The index of the first row with NaN or infinity, or None.

    If the sum of all entries is finite, which is fast to compute, so are they.
    """
    if bool(rows.sum(dtype=torch.float32).isfinite()):
        return None
    bad = (~rows.isfinite()).any(1).nonzero()
    return int(bad[0]) if len(bad) else None
