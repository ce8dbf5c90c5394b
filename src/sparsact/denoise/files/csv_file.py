"""One column of a CSV or TSV."""

import csv
from pathlib import Path

import numpy as np

from sparsact._common.table_cells import number_in
from sparsact.denoise.files.file_content import Array, Content, FileFormat
from sparsact.denoise.files.table_header import header_and_place

SEPARATORS = (",", ";", "\t")


def read_csv(path: Path, column: str | None = None) -> Content:
    """One column of a CSV as a signal; the text of the other columns is kept.

    Columns are separated by commas, semicolons or tabs. Empty cells are missing values.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        first = file.readline()
        file.seek(0)
        is_tsv = path.suffix.lower() == ".tsv"
        separator = "\t" if is_tsv else max(SEPARATORS, key=first.count)
        rows = [row for row in csv.reader(file, delimiter=separator) if row]
    headed, place = header_and_place(path, rows, column)
    start = int(headed)
    body = rows[start:]
    signal = np.array([_number(row, place, path, number) for number, row in enumerate(body, 1)])

    def write(target: Path, blocks: list[Array]) -> None:
        clean = [
            row if np.isnan(value) else [*row[:place], repr(float(value)), *row[place + 1 :]]
            for row, value in zip(body, blocks[0], strict=True)
        ]
        with target.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter=separator, lineterminator="\n")
            writer.writerows(rows[:start] + clean)

    return Content([signal], 1, None, None, write)


def _number(row: list[str], place: int, path: Path, number: int) -> float:
    cell = row[place] if place < len(row) else ""
    return number_in(cell if cell.strip() else "nan", f"{path}: row {number} of the column")


CSV = FileFormat(
    "CSV",
    (".csv", ".tsv"),
    read_csv,
    library="csv of Python",
    extra="",
    keeps="header, separator, the text of the other columns",
    options=("column",),
)
