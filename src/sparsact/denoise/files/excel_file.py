"""One column of an Excel sheet."""

from pathlib import Path
from typing import Any

import numpy as np

from sparsact._common.errors import InputError
from sparsact._common.extras import require
from sparsact._common.table_cells import number_in
from sparsact.denoise.files.file_content import Array, Content, FileFormat
from sparsact.denoise.files.table_header import header_and_place


def read_excel(path: Path, column: str | None = None) -> Content:
    """One column of the first sheet with numbers as a signal; other cells and styles are kept."""
    openpyxl: Any = require("openpyxl", "tables")
    sheet = openpyxl.load_workbook(path, data_only=True).worksheets[0]
    cells = [list(map(_text, row)) for row in sheet.iter_rows(values_only=True)]
    while cells and not any(cells[-1]):
        cells.pop()
    headed, place = header_and_place(path, cells, column)
    first = 1 + headed
    signal = np.array(
        [
            number_in(row[place] or "nan", f"{path}: row {number} of the column")
            for number, row in enumerate(cells[headed:], 1)
        ]
    )
    formulas = openpyxl.load_workbook(path).worksheets[0]
    for row in range(first, first + len(signal)):
        if formulas.cell(row, place + 1).data_type == "f":
            raise InputError(f"{path} has formulas in this column; paste their values first")

    def write(target: Path, blocks: list[Array]) -> None:
        book = openpyxl.load_workbook(path)
        for row, value in enumerate(blocks[0].tolist(), first):
            if not np.isnan(value):
                book.worksheets[0].cell(row, place + 1).value = value
        with target.open("wb") as file:
            book.save(file)

    return Content(
        [signal], 1, None, None, write, notes=("not kept: charts and pictures of the workbook",)
    )


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell)


EXCEL = FileFormat(
    "Excel",
    (".xlsx",),
    read_excel,
    library="openpyxl",
    extra="tables",
    keeps="the other columns and sheets, formulas, styles, widths",
    loses="charts and pictures",
    options=("column",),
)
