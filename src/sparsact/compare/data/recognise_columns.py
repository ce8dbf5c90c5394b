"""What the cells of each column are: numbers, truth values, dates, categories or text."""

import re
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from sparsact._common.errors import InputError
from sparsact.compare.data.cells import (
    MISSING_FEATURE,
    Series,
    as_text,
    date_formats,
    refuse_infinite,
    to_dates,
    to_numbers,
    truth_pair,
)
from sparsact.compare.data.column import MOST_CATEGORIES, Column

MOST_STRAYS = 0.1
FEWEST_REPEATS = 5
AMBIGUOUS = re.compile(r"^[+-]?[1-9]\d{0,2}([.,])\d{3}$")
COMMA_DECIMAL = re.compile(r"^[+-]?\d+,\d+%?$")
POINT_DECIMAL = re.compile(r"^[+-]?\d+\.\d+%?$")


def recognise(
    name: str,
    cells: Series,
    marks: str = ".,",
    words: Collection[str] = (),
    as_category: bool = False,
) -> Column | None:
    """How a column is to be read; None if it has no value at all.

    Args:
        name: of the column.
        cells: all of them.
        marks: the decimal marks to try, the likely one first.
        words: further words for a missing cell.
        as_category: whether the user says that the numbers are categories.

    Raises:
        InputError: a few cells do not fit the others.
    """
    missing = MISSING_FEATURE | frozenset(words)
    column = Column(name, "number", missing=tuple(sorted(missing)))
    if cells.dtype.kind == "c" or _holds_objects(cells):
        raise InputError(
            f"column {name!r} holds {_first_type(cells)}: give it one plain value a cell, or "
            "ignore= it"
        )
    if bool(cells.isna().all()):
        return None
    if as_category:
        return replace(column, kind="category")
    if cells.dtype.kind in "biufM":
        kinds: dict[str, Any] = {"b": "boolean", "M": "date"}
        if cells.dtype.kind == "f":
            refuse_infinite(name, cells)
        return replace(column, kind=kinds.get(cells.dtype.kind, "number"))
    text = as_text(cells, missing)
    if bool(text.isna().all()):
        return None
    return _recognise_text(column, text, marks)


def guess_marks(frame: Any, separator: str) -> str:
    """The decimal marks to try in a table, the one that its cells show first."""
    comma = point = ambiguous = 0
    for place in range(frame.shape[1]):
        for cell in frame.iloc[:200, place].dropna().astype(str):
            stripped = cell.strip()
            if AMBIGUOUS.match(stripped):
                ambiguous += "," in stripped
            elif COMMA_DECIMAL.match(stripped):
                comma += 1
            elif POINT_DECIMAL.match(stripped):
                point += 1
    is_comma = comma > point or (comma == point and ambiguous and separator == ";")
    return ",." if is_comma else ".,"


def _recognise_text(column: Column, text: Series, marks: str) -> Column:
    if truth_pair(text) is not None:
        return replace(column, kind="boolean")
    known = text.dropna()
    mark, remark, numbers = as_numbers(known, marks)
    if bool(numbers.notna().all()):
        refuse_infinite(column.name, numbers.reindex(text.index))
        return replace(column, kind="number", decimal=mark, remark=remark)
    formats = date_formats(known) if numbers.isna().mean() > MOST_STRAYS else []
    if formats:
        return _date_column(column, text, formats)
    distinct = known.nunique()
    if distinct <= min(MOST_CATEGORIES, len(known) // FEWEST_REPEATS):
        return replace(column, kind="category")
    _check_strays(column.name, text, known[numbers.isna()], "numbers")
    is_text = distinct > MOST_CATEGORIES and distinct > len(known) / 2
    return replace(column, kind="text" if is_text else "category")


def as_numbers(known: Series, marks: str) -> tuple[str, str, Series]:
    """The decimal mark that suits most cells, a remark, and the numbers."""
    mark, numbers = marks[0], to_numbers(known, marks[0])
    for other in marks[1:]:
        if bool(numbers.notna().all()):
            break
        others = to_numbers(known, other)
        if others.notna().sum() > numbers.notna().sum():
            mark, numbers = other, others
    remarks = []
    other = "," if mark == "." else "."
    if bool(known.str.contains(other, regex=False).any()):
        remarks.append(f"{other!r} separates thousands")
    if mark == "," and bool(known.str.contains(",", regex=False).any()):
        remarks.append("decimal comma")
    if bool(known.str.contains("%", regex=False).any()):
        remarks.append("percent, as fractions")
    if bool(known.str.match(r"[+-]?0\d").any()):
        remarks.append("leading zeros are dropped")
    return mark, ", ".join(remarks), numbers


def _date_column(column: Column, text: Series, formats: list[str]) -> Column:
    column = replace(column, kind="date", date_format=formats[0])
    dates = to_dates(text, formats[0])
    _check_strays(column.name, text, text[dates.isna() & text.notna()], "dates")
    if not bool((dates.notna() | text.isna()).all()):
        return replace(column, kind="category")
    values = dates.dropna()
    if any(bool((to_dates(text, other).dropna() != values).any()) for other in formats[1:]):
        return replace(column, remark="the order of day and month is a guess")
    return column


def _check_strays(name: str, text: Series, strays: Series, kind: str) -> None:
    """Raise InputError if a few cells keep a column from being numbers or dates."""
    share = len(strays) / int(text.notna().sum())
    if not len(strays) or (share > MOST_STRAYS and (strays.nunique() > 1 or share > 0.5)):
        return
    place = int(text.index.get_loc(strays.index[0]))
    word = strays.iloc[0]
    raise InputError(
        f"row {place + 1}, column {name!r} is text: {word!r}, but most cells are {kind}. Correct "
        f"it, say that it is missing with missing={word}, or use categories={name}"
    )


def _holds_objects(cells: Series) -> bool:
    """Whether some cell is no plain value, such as a list."""
    return cells.dtype == object and any(map(_is_object, cells))


def _is_object(cell: object) -> bool:
    kinds = (list, dict, set, tuple, bytes)
    return isinstance(cell, kinds) or getattr(cell, "ndim", 0) > 0


def _first_type(cells: Series) -> str:
    if cells.dtype.kind == "c":
        return "complex numbers"
    return f"cells of type {type(next(filter(_is_object, cells))).__name__}"
