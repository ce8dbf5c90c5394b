"""One column of a CSV."""

import csv
from pathlib import Path

import numpy as np

from sparsact._common.errors import InputError, suggestion
from sparsact._common.table_cells import is_number, number_in
from sparsact.denoise.files.file_content import Array, Content, FileFormat


def read_csv(path: Path, column: str | None = None) -> Content:
    """One column of a CSV as a signal; the other columns are kept.

    Columns are separated by commas or semicolons.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        first = file.readline()
        file.seek(0)
        separator = ";" if first.count(";") > first.count(",") else ","
        rows = [row for row in csv.reader(file, delimiter=separator) if row]
    names = [name.strip() for name in rows[0]] if rows else [""]
    place = _place(path, names, column)
    start = 0 if is_number(names[place]) else 1  # without a header the first row is data
    body = rows[start:]
    signal = np.array(
        [
            number_in(row[place] if place < len(row) else "", f"{path}: row {number} of the column")
            for number, row in enumerate(body, 1)
        ]
    )

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
    """The index of the column: by its name, or from 1 if there is no header."""
    headless = all(is_number(name) for name in names)
    choices = f"1 to {len(names)} (it has no header)" if headless else ", ".join(names)
    if column is None and len(names) == 1:
        return 0
    if column is None:
        raise InputError(f"{path} has several columns: choose a column= from {choices}")
    if column in names and not is_number(column):
        return names.index(column)
    place = int(column) - 1 if column.isdecimal() else -1
    if 0 <= place < len(names) and is_number(names[place]):
        return place
    hint = suggestion(column, [] if headless else names, otherwise=f"it has {choices}")
    raise InputError(f"{path} has no column {column!r}; {hint}")


CSV = FileFormat("CSV", (".csv",), read_csv, options=("column",))
