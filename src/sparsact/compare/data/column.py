"""One column of a table: how its cells are read, and which features they become."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sparsact._common.errors import InputError
from sparsact._common.extras import require
from sparsact._common.table_cells import is_number
from sparsact.compare.data.cells import (
    Series,
    as_text,
    refuse_infinite,
    to_dates,
    to_numbers,
    to_truths,
)

Kind = Literal["number", "boolean", "date", "category", "text"]
MOST_CATEGORIES = 30
TEXT_FEATURES = 32
SECONDS_A_DAY = 86400
MISSING_CATEGORY = "(missing)"


@dataclass(frozen=True)
class Column:
    """A column of a table, as it is read and encoded; plain values, so that JSON can hold it.

    Attributes:
        name: of the column.
        kind: what its cells are.
        missing: the words that stand for a missing cell.
        decimal: the decimal mark of numbers.
        date_format: of dates, as in ``strftime``, or ``ISO8601``.
        remark: what to say about the reading.
        fill: what replaces a missing value in each feature: the median of the training part.
        marks_missing: whether a feature tells which cells are missing.
        categories: those of the training part that get a feature, the most frequent first.
        clock: whether the hour of a date is a feature.
    """

    name: str
    kind: Kind
    missing: tuple[str, ...] = ()
    decimal: str = "."
    date_format: str = "ISO8601"
    remark: str = ""
    fill: tuple[float, ...] = ()
    marks_missing: bool = False
    categories: tuple[str, ...] = ()
    clock: bool = False

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Column":
        """The column that `to_dict` described."""
        lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        return cls(**{**fields, **lists})

    def to_dict(self) -> dict[str, Any]:
        """Everything about the column, for JSON."""
        return asdict(self)

    def typed(self, cells: Series) -> Series:
        """The cells as numbers or times, so that text is parsed once; other kinds as they are."""
        if self.kind == "date":
            return self._dates(cells)
        if self.kind == "number" and cells.dtype.kind not in "biuf":
            return to_numbers(as_text(cells, self.missing), self.decimal)
        return cells

    def fit(self, cells: Series) -> "Column":
        """The same with categories and fill values from the cells of the training part."""
        if self.kind == "text":
            return self
        if self.kind == "category":
            text = as_text(cells, self.missing)
            counts = text.fillna(MISSING_CATEGORY).value_counts()
            ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
            return replace(self, categories=tuple(name for name, _ in ordered[:MOST_CATEGORIES]))
        clock = self.kind == "date" and bool((self._dates(cells).dt.hour > 0).any())
        column = replace(self, clock=clock)
        values = column._values(cells)
        absent = np.isnan(values).any(1)
        known = values[~absent]
        if not len(known):
            raise InputError(f"column {self.name!r} has no value in the training part: ignore= it")
        fill = tuple(np.median(known, axis=0).tolist())
        return replace(column, fill=fill, marks_missing=bool(absent.any()))

    def features(self) -> tuple[str, ...]:
        """A name per feature."""
        if self.kind == "category":
            return tuple(f"{self.name}={category}" for category in self.categories)
        if self.kind == "text":
            return tuple(f"{self.name} hash {i}" for i in range(TEXT_FEATURES))
        parts: tuple[str, ...] = (self.name,)
        if self.kind == "date":
            parts = tuple(
                f"{self.name} {part}"
                for part in ("days", "month", "weekday", "hour")
                if part != "hour" or self.clock
            )
        return parts + ((f"{self.name} missing",) if self.marks_missing else ())

    def encode(self, cells: Series) -> NDArray[np.float64]:
        """The features of these cells, (cells, features) float64.

        Raises:
            InputError: a cell is not of the column's kind.
        """
        if self.kind == "category":
            return self._one_hot(as_text(cells, self.missing).fillna(MISSING_CATEGORY))
        if self.kind == "text":
            return self._hashed(as_text(cells, self.missing).fillna(""))
        values = self._values(cells)
        absent = np.isnan(values).any(1)
        if absent.any() and not self.fill:
            raise InputError(f"row {absent.argmax() + 1}, column {self.name!r} is missing")
        if self.fill:
            values[absent] = self.fill
        if not self.marks_missing:
            return values
        return np.column_stack([values, absent.astype(np.float64)])

    def describe(self, cells: Series) -> str:
        """What becomes of the cells of the training part, in a few words."""
        if self.kind in ("category", "text"):
            absent = int(as_text(cells, self.missing).isna().sum())
        else:
            absent = int(np.isnan(self._values(cells)).any(1).sum())
        words = {
            "number": "number",
            "boolean": "true or false, as 1 or 0",
            "date": f"date, {self._date_words()}",
            "category": self._category_words(cells),
            "text": f"text, as {TEXT_FEATURES} hashed counts of letter groups",
        }[self.kind]
        remark = f"; {self.remark}" if self.remark else ""
        if not absent or self.kind == "category":
            return words + remark
        if self.kind == "text":
            return f"{words}; {absent} missing, as no counts"
        filled = "the median" if self.kind == "date" else f"the median, {self.fill[0]:g}"
        return f"{words}{remark}; {absent} missing: {filled}, and a feature that marks them"

    def _date_words(self) -> str:
        parts = "days since 1970, month, weekday" + (", hour" if self.clock else "")
        return f"as {parts} ({self.date_format})"

    def _category_words(self, cells: Series) -> str:
        text = as_text(cells, self.missing).fillna(MISSING_CATEGORY)
        count = text.nunique()
        words = f"{count} categories, as one feature each"
        if count > MOST_CATEGORIES:
            share = float(text.isin(list(self.categories)).mean())
            words = (
                f"{count} categories; the {MOST_CATEGORIES} most frequent ({share:.0%} of the "
                "cells) get a feature each, the others none"
            )
        absent = int((text == MISSING_CATEGORY).sum())
        return words + (f"; {absent} missing, as a category" if absent else "")

    def _dates(self, cells: Series) -> Series:
        pandas = require("pandas", "compare")
        if cells.dtype.kind == "M":
            return pandas.to_datetime(cells, utc=True)
        text = as_text(cells, self.missing)
        dates = to_dates(text, self.date_format)
        self._check(text, dates)
        return dates

    def _values(self, cells: Series) -> NDArray[np.float64]:
        """The features before missing ones are filled; NaN where a cell is missing."""
        if self.kind == "date":
            return _date_features(self._dates(cells), self.clock)
        if cells.dtype.kind in "biuf":
            values = cells.astype("float64")
            values = values.mask(values.isin(list(map(float, filter(is_number, self.missing)))))
        else:
            text = as_text(cells, self.missing)
            is_truth = self.kind == "boolean"
            values = to_truths(text) if is_truth else to_numbers(text, self.decimal)
            self._check(text, values)
        refuse_infinite(self.name, values)
        array: NDArray[np.float64] = values.to_numpy(np.float64, na_value=np.nan, copy=True)
        return array[:, None]

    def _check(self, text: Series, values: Series) -> None:
        """Raise InputError if a cell that is there has no value."""
        strange = np.flatnonzero((values.isna() & text.notna()).to_numpy())
        if len(strange):
            row = int(strange[0])
            raise InputError(
                f"row {row + 1}, column {self.name!r} is text: {text.iloc[row]!r}, but the column "
                f"holds {'dates' if self.kind == 'date' else self.kind + 's'}"
            )

    def _one_hot(self, text: Series) -> NDArray[np.float64]:
        preprocessing = require("sklearn.preprocessing", "compare")
        known = np.array(self.categories, dtype=object)
        encoder = preprocessing.OneHotEncoder(
            categories=[known], handle_unknown="ignore", sparse_output=False
        )
        encoder.fit(known[:, None])
        features: NDArray[np.float64] = encoder.transform(text.to_numpy(dtype=object)[:, None])
        return features

    def _hashed(self, text: Series) -> NDArray[np.float64]:
        texts = require("sklearn.feature_extraction.text", "compare")
        vectorizer = texts.HashingVectorizer(
            analyzer="char_wb", ngram_range=(2, 4), n_features=TEXT_FEATURES
        )
        features: NDArray[np.float64] = vectorizer.transform(text.tolist()).toarray()
        return features


def _date_features(dates: Series, clock: bool) -> NDArray[np.float64]:
    """Days since 1970, month, weekday and, if wanted, hour: (dates, 3 or 4); NaN if missing."""
    start = require("pandas", "compare").Timestamp(0, tz="UTC")
    days = (dates - start).dt.total_seconds() / SECONDS_A_DAY
    parts = [days, dates.dt.month, dates.dt.day_of_week] + ([dates.dt.hour] if clock else [])
    return np.column_stack([part.to_numpy(np.float64, na_value=np.nan) for part in parts])
