"""NPY arrays, and one column of a CSV."""

import csv
import difflib
from pathlib import Path

import numpy as np

from sparsact.denoise.files.content import Array, Content, FileError, integer_peak


def read_npy(path: Path) -> Content:
    """An array of integers or floats: a signal if it has one dim, else images (…, H, W)."""
    values = np.load(path, allow_pickle=False)
    if values.dtype.kind not in "uif" or values.ndim == 0:
        raise FileError(
            f"{path} holds {values.dtype} of shape {values.shape}; expected an array of "
            "integers or floats"
        )

    def write(target: Path, blocks: list[Array]) -> None:
        with target.open("wb") as file:
            np.save(file, blocks[0])

    return Content([values], min(values.ndim, 2), None, integer_peak(values.dtype), write)


def read_csv(path: Path, column: str | None) -> Content:
    """One column of a CSV with a header, as a signal; the others are kept."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file) if row]
    place = _place(path, rows[0] if rows else [], column)
    signal = np.array([_number(path, row, number, place) for number, row in enumerate(rows[1:], 1)])

    def write(target: Path, blocks: list[Array]) -> None:
        body = [
            [*row[:place], repr(float(value)), *row[place + 1 :]]
            for row, value in zip(rows[1:], blocks[0], strict=True)
        ]
        with target.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([rows[0], *body])

    return Content([signal], 1, None, None, write)


def _place(path: Path, header: list[str], column: str | None) -> int:
    names = [name.strip() for name in header]
    if column is None and len(names) == 1:
        return 0
    if column is None:
        raise FileError(f"{path}: choose a --column of {', '.join(names)}")
    if column not in names:
        near = difflib.get_close_matches(column, names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names)}"
        raise FileError(f"{path} has no column {column!r}; {hint}")
    return names.index(column)


def _number(path: Path, row: list[str], number: int, place: int) -> float:
    cell = row[place] if place < len(row) else ""
    try:
        return float(cell)
    except ValueError:
        what = f"is text: {cell!r}" if cell.strip() else "is empty"
        raise FileError(f"{path}: row {number} of the column {what}") from None
