"""From the cells of a table to features; fitted on the training part, saved as JSON."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsact._common.errors import InputError, suggestion
from sparsact.compare.data.column import Column

Frame = Any  # a pandas DataFrame; pandas is imported only where a table is read


@dataclass(frozen=True)
class TableEncoder:
    """Turns a DataFrame with these columns into features.

    Attributes:
        columns: in the order of their features, fitted or not.
        treatments: per column, what becomes of it, in words.
    """

    columns: tuple[Column, ...]
    treatments: tuple[str, ...] = ()

    @classmethod
    def from_dicts(cls, columns: list[dict[str, Any]]) -> "TableEncoder":
        """The encoder whose `to_dicts` this is."""
        fields = [{**column} for column in columns]
        treatments = tuple(column.pop("treatment") for column in fields)
        return cls(tuple(Column.from_dict(column) for column in fields), treatments)

    def to_dicts(self) -> list[dict[str, Any]]:
        """A description of each column, for JSON."""
        pairs = zip(self.columns, self.treatments, strict=True)
        return [{**column.to_dict(), "treatment": treatment} for column, treatment in pairs]

    def fit(self, table: Frame) -> "TableEncoder":
        """The encoder fitted on a training part, (rows, columns)."""
        columns = tuple(column.fit(table[column.name]) for column in self.columns)
        treatments = tuple(column.describe(table[column.name]) for column in columns)
        return TableEncoder(columns, treatments)

    def features(self) -> tuple[str, ...]:
        """A name per feature."""
        return tuple(name for column in self.columns for name in column.features())

    def encode(self, table: Frame) -> NDArray[np.float64]:
        """The features of each row, (rows, features) float64.

        Raises:
            InputError: a column is not there, or a cell is not of its kind.
        """
        names = [str(name) for name in table.columns]
        for column in self.columns:
            count = names.count(column.name)
            if count != 1:
                hint = suggestion(column.name, names, otherwise=f"it has {', '.join(names)}")
                fault = "no column" if count == 0 else f"{count} columns"
                raise InputError(f"the table has {fault} {column.name!r}; {hint}")
        cells = [table.iloc[:, names.index(column.name)] for column in self.columns]
        pairs = zip(self.columns, cells, strict=True)
        return np.concatenate([column.encode(values) for column, values in pairs], axis=1)

    def spans(self) -> Iterator[tuple[Column, slice]]:
        """Each column, and where its features are."""
        start = 0
        for column in self.columns:
            stop = start + len(column.features())
            yield column, slice(start, stop)
            start = stop

    def summary(self) -> list[tuple[str, str]]:
        """What was done to each column: (names, treatment); equal treatments share a line."""
        names: dict[str, list[str]] = {}
        for column, treatment in zip(self.columns, self.treatments, strict=True):
            names.setdefault(treatment, []).append(column.name)
        return [(_listed(group), treatment) for treatment, group in names.items()]


def _listed(names: list[str], most: int = 6) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown}, … ({len(names)} columns)"
