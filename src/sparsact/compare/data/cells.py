"""Cells of a table as text, numbers, truth values and dates."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from sparsact._common.errors import InputError
from sparsact._common.extras import require

Series = Any  # a pandas Series; pandas is imported only where a table is read

# what pandas reads as missing
MISSING = frozenset(
    ["", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"]
) | {"<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"}
# other usual signs; in a target, "-" and "?" may be classes
MISSING_FEATURE = MISSING | {"?", "-", "--", ".", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "NaT"}

SPACES = "[ '’\u00a0\u202f]"  # between thousands

TRUTH_PAIRS = (("false", "true"), ("no", "yes"), ("f", "t"), ("n", "y"), ("off", "on"))

_DATES = (
    *("%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%Y/%m/%d", "%m-%d-%Y", "%d-%m-%Y"),
    *("%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%d-%b-%Y", "%d-%b-%y"),
    *("%m/%d/%y", "%d/%m/%y", "%d.%m.%y"),
)
_CLOCKS = (" %H:%M:%S", " %H:%M", " %I:%M %p", " %I:%M:%S %p", " %H:%M:%S.%f")
DATE_FORMATS = (
    "ISO8601",
    *(day + clock for day in _DATES for clock in ("", *_CLOCKS)),
    *(clock.strip() for clock in _CLOCKS),
)
_LARGEST_SAMPLE = 50


def as_text(series: Series, missing: Iterable[str]) -> Series:
    """The cells as stripped text; missing ones are NA."""
    if series.dtype.kind == "f":
        series = series.convert_dtypes()  # 1.0 is the category "1"
    text = series.astype("string").str.strip()
    return text.mask(text.isin(list(missing)))


def to_numbers(text: Series, decimal: str) -> Series:
    """The numbers in text such as ``1,000``, ``12%`` or ``$ 5``; NaN where there is none.

    Args:
        text: cells as text.
        decimal: ``.`` or ``,``; the other one separates thousands.
    """
    pandas = require("pandas", "compare")
    if decimal == ".":
        plain = pandas.to_numeric(text, errors="coerce").astype("Float64")
        if bool((plain.notna() | text.isna()).all()):
            return plain.astype("float64")
    codes, words = pandas.factorize(text)  # each word once: categories have few
    numbers = _numbers_in(pandas.Series(words, dtype="string"), decimal)
    values = np.append(numbers.to_numpy(np.float64), np.nan)[codes]
    return pandas.Series(values, index=text.index)


def _numbers_in(text: Series, decimal: str) -> Series:
    """The numbers in words with signs of thousands, percent or money."""
    pandas = require("pandas", "compare")
    group = "," if decimal == "." else r"\."
    mark = r"\." if decimal == "." else ","
    grouped = [rf"[1-9]\d{{0,2}}(?:{separator}\d{{3}})+" for separator in (group, SPACES)]
    whole = rf"(?:{grouped[0]}|{grouped[1]}|\d+)"
    number = rf"(?:{whole}(?:{mark}\d*)?|{mark}\d+)(?:[eE][+-]?\d+)?"
    currency = r"[$€£¥]?\s?"
    pattern = rf"^([+\-−]?){currency}({number}|inf|infinity)\s?(%?){currency}$"
    text = text.str.replace(r"^\((.+)\)$", r"-\1", regex=True)  # as in books of accounts
    parts = text.str.extract(pattern, flags=2)  # re.IGNORECASE
    digits = parts[1].str.replace(rf"{SPACES}|{group}", "", regex=True)
    digits = digits.str.replace(",", ".", regex=False)
    values = pandas.to_numeric(digits, errors="coerce").astype("float64")
    values = values.where(~parts[0].isin(["-", "−"]), -values)
    return values.where(parts[2] != "%", values / 100)


def refuse_infinite(name: str, values: Series) -> None:
    """Raise InputError if a number of the column `name` is infinite."""
    array = values.to_numpy(np.float64, na_value=np.nan)
    rows = np.flatnonzero(np.isinf(array))
    if len(rows):
        raise InputError(
            f"row {rows[0] + 1}, column {name!r} is {array[rows[0]]} ({len(rows)} such cells in "
            "all); drop or fill them"
        )


def truth_pair(text: Series) -> tuple[str, str] | None:
    """The words for false and true, if the cells hold nothing else."""
    words = set(text.dropna().drop_duplicates().str.lower())
    return next((pair for pair in TRUTH_PAIRS if words and words <= set(pair)), None)


def to_truths(text: Series) -> Series:
    """1 for ``true``, ``yes`` and the like, 0 for their opposites, NaN for any other cell."""
    values = {word: float(place) for pair in TRUTH_PAIRS for place, word in enumerate(pair)}
    values |= {"0": 0.0, "1": 1.0}
    return text.str.lower().map(values).astype("float64")


def to_dates(text: Series, date_format: str) -> Series:
    """Times in UTC; NaT where a cell does not have the format."""
    pandas = require("pandas", "compare")
    return pandas.to_datetime(text, format=date_format, errors="coerce", utc=True)


def date_formats(text: Series) -> list[str]:
    """The formats that suit nearly all cells, best first; a number is not a date."""
    cells = text.dropna().drop_duplicates()
    sample = cells.iloc[:: max(1, len(cells) // _LARGEST_SAMPLE)]
    if not bool(sample.str.contains(r"\d.*[-/.: ].*\d").mean() > 0.9):
        return []
    if bool(to_dates(cells, "ISO8601").notna().all()):
        return ["ISO8601"]
    shares = {}
    for date_format in DATE_FORMATS:
        if to_dates(sample, date_format).notna().mean() > 0.8:
            shares[date_format] = float(to_dates(cells, date_format).notna().mean())
    best = max(shares.values(), default=0)
    return [date_format for date_format, share in shares.items() if share == best]
