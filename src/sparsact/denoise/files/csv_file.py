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
    """One column of a CSV, separated by commas or semicolons, as a signal; the others are kept."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        first = file.readline()
        file.seek(0)
        separator = ";" if first.count(";") > first.count(",") else ","
        rows = [row for row in csv.reader(file, delimiter=separator) if row]
    names = [name.strip() for name in rows[0]] if rows else [""]
    place = _place(path, names, column)
    start = 0 if _is_number(names[place]) else 1  # without a header the first row is data
    body = rows[start:]
    signal = np.array([_number(path, row, number, place) for number, row in enumerate(body, 1)])

    def write(target: Path, blocks: list[Array]) -> None:
        clean = [
            [*row[:place], repr(float(value)), *row[place + 1 :]]
            for row, value in zip(body, blocks[0], strict=True)
        ]
        with target.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter=separator, lineterminator="\n")
            writer.writerows(rows[:start] + clean)

    return Content([signal], 1, None, None, write)


def _place(path: Path, names: list[str], column: str | None) -> int:
    """Which column: by its name, or from 1 if the first row has a number there."""
    headless = all(_is_number(name) for name in names)
    choices = f"1 to {len(names)} (it has no header)" if headless else ", ".join(names)
    if column is None and len(names) == 1:
        return 0
    if column is None:
        raise FileError(f"{path}: choose a --column of {choices}")
    if column in names and not _is_number(column):
        return names.index(column)
    place = int(column) - 1 if column.isdecimal() else -1
    if 0 <= place < len(names) and _is_number(names[place]):
        return place
    near = difflib.get_close_matches(column, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near and not headless else f"it has {choices}"
    raise FileError(f"{path} has no column {column!r}; {hint}")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(path: Path, row: list[str], number: int, place: int) -> float:
    cell = row[place] if place < len(row) else ""
    try:
        return float(cell)
    except ValueError:
        what = f"is text: {cell!r}" if cell.strip() else "is empty"
        raise FileError(f"{path}: row {number} of the column {what}") from None
