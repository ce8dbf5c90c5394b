"""Tables in formats that keep the types of their cells: Parquet and Excel."""

from pathlib import Path

from sparsact._common.errors import InputError
from sparsact._common.extras import require
from sparsact.compare.data.text_table import RawTable, column_names, has_header

PARQUET = (".parquet", ".pq")
EXCEL = (".xlsx", ".xlsm")


def read_parquet(path: Path) -> RawTable:
    """Read a Parquet file.

    Raises:
        InputError: it is none.
    """
    arrow, parquet = require("pyarrow", "compare"), require("pyarrow.parquet", "compare")
    try:
        frame = parquet.read_table(path).to_pandas()
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path} is not a readable Parquet file: {error}") from error
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    frame.columns = [str(name) for name in frame.columns]
    return RawTable(frame.reset_index(drop=True), "", ())


def read_excel(path: Path, header: str) -> RawTable:
    """Read the first sheet of an Excel file.

    Args:
        path: of the file.
        header: ``yes``, ``no``, or ``auto`` to look at the first rows.

    Raises:
        InputError: it is none, or the sheet is empty.
    """
    pandas = require("pandas", "compare")
    require("openpyxl", "compare")
    try:
        with pandas.ExcelFile(path, engine="openpyxl") as book:
            sheets = [str(name) for name in book.sheet_names]
            frame = pandas.read_excel(book, sheet_name=sheets[0], header=None, dtype=object)
    except Exception as error:  # openpyxl raises what it comes upon in a damaged file
        raise InputError(f"{path} is not a readable Excel file: {error}") from error
    frame = frame.dropna(how="all").dropna(how="all", axis=1)
    notes = []
    if len(sheets) > 1:
        notes.append(f"only the first of {len(sheets)} sheets, {sheets[0]!r}, is read")
    cells = frame.astype(object).where(frame.notna(), "")
    rows = [[str(cell) for cell in row] for row in cells.head(500).to_numpy().tolist()]
    named = header == "yes" or (header == "auto" and has_header(rows))
    frame = frame.iloc[int(named) :].reset_index(drop=True)
    if not len(frame):
        raise InputError(f"{path}: the sheet {sheets[0]!r} must hold a header and at least one row")
    frame.columns = column_names(rows[0] if named else None, frame.shape[1], notes)
    return RawTable(frame.infer_objects(), "", tuple(notes))
