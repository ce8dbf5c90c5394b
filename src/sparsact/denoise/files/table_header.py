"""The header of a table, and the column that a user means."""

import itertools
from pathlib import Path

from sparsact._common.errors import InputError, suggestion
from sparsact._common.table_cells import is_number

Row = list[str]


def header_and_place(path: Path, rows: list[Row], column: str | None) -> tuple[bool, int]:
    """Whether the first row is a header, and the index of the column.

    A name of the first row comes before a number. The first row is a header if it has text above
    a number, if it holds the name of the column, or if it counts columns of other numbers.

    Raises:
        InputError: there is no such column, or several and none is chosen.
    """
    names = [name.strip() for name in rows[0]] if rows else [""]
    headed = _counts(names, rows[1:]) or _heads_numbers(names, rows[1:2])
    headless = all(map(is_number, names)) and not headed
    choices = f"1 to {len(names)} (it has no header)" if headless else ", ".join(names)
    if column is None and len(names) == 1:
        return not is_number(names[0]), 0
    if column is None:
        raise InputError(f"{path} has several columns: choose a column= from {choices}")
    if names.count(column) > 1 and not headless:
        raise InputError(f"{path} has {names.count(column)} columns {column!r}; rename one")
    if names.count(column) == 1:
        return True, names.index(column)
    place = int(column) - 1 if column.isdecimal() and not headed else -1
    if 0 <= place < len(names) and is_number(names[place]):
        return False, place
    hint = suggestion(column, [] if headless else names, otherwise=f"it has {choices}")
    raise InputError(f"{path} has no column {column!r}; {hint}")


def _heads_numbers(names: Row, body: list[Row]) -> bool:
    """Whether a name that is no number stands above a number."""
    return any(
        not is_number(name) and is_number(cell)
        for row in body
        for name, cell in zip(names, row, strict=False)
    )


def _counts(names: Row, body: list[Row]) -> bool:
    """Whether names are evenly spaced whole numbers above cells with other numbers."""
    if len(names) < 2 or not all(name.isdecimal() for name in names):
        return False
    steps = {int(b) - int(a) for a, b in itertools.pairwise(names)}
    if len(steps) > 1 or 0 in steps or (len(names) == 2 and names not in (["0", "1"], ["1", "2"])):
        return False
    return any(is_number(cell) and not cell.strip().isdecimal() for row in body for cell in row)
