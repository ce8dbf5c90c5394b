"""The tables of the page of results, from the JSON that the benchmarks write."""

import json
import sys
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
RESULTS = BENCHMARKS / "results"
ROOM = 6
"""Columns that fit on a page."""


def measured_ratios(_: str = "") -> str:
    """The table of the README."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import table
    finally:
        sys.path.remove(str(BENCHMARKS))
    return f"{table.table()}\n\n*{table.machines()}.*"


def result_table(argument: str) -> str:
    """The results of ``FILE``, or of ``FILE | KEY | KEY`` a part, with the machine below."""
    file, *keys = argument.split(" | ")
    content = json.loads((RESULTS / f"{file}.json").read_text(encoding="utf-8"))
    value, environment = content["results"], content["environment"]
    if len(keys) == 1:
        value = value[keys[0]]
    elif keys:
        value = {key: value[key] for key in keys}
    machine = f"{environment['cpu']}, threads: {environment['threads']}"
    measured = f"*{machine}, torch {environment['torch']}; `benchmarks/results/{file}.json`*"
    return f"{table_of(value)}\n\n{measured}"


def table_of(value: Any) -> str:
    """A table of rows that are dicts, or of names with a figure each.

    A table of more columns than rows that a page has no room for is turned.
    """
    if isinstance(value, list):
        rows = [("", _flat(row)) for row in value]
    elif any(_is_row(row) for row in value.values()):
        rows = [(name, _flat(row)) for name, row in value.items() if _is_row(row)]
    else:
        rows = [(name, {"": figure}) for name, figure in value.items()]
    columns = list(dict.fromkeys(column for _, row in rows for column in row))
    named = any(name for name, _ in rows)
    grid = [[""] * named + columns] + [
        [name] * named + [figure_text(row.get(column)) for column in columns] for name, row in rows
    ]
    if named and len(columns) > max(ROOM, len(rows)):
        grid = [list(line) for line in zip(*grid, strict=True)]
    head, *body = (_line(cells) for cells in grid)
    return "\n".join([head, "|---" * len(grid[0]) + "|", *body])


def figure_text(figure: Any) -> str:
    """A figure with as many digits as a reader compares."""
    if isinstance(figure, dict):
        return f"{figure_text(figure['value'])} ± {figure_text(figure['standard error'])}"
    if isinstance(figure, list):
        return ", ".join(map(figure_text, figure))
    if figure is None:
        return "–"
    if not isinstance(figure, float):
        return str(figure)
    if figure.is_integer() or abs(figure) >= 100:
        return f"{figure:,.0f}"
    return f"{figure:.2f}" if abs(figure) >= 1 else f"{figure:.3g}"


def _is_row(value: Any) -> bool:
    return isinstance(value, dict) and "standard error" not in value


def _flat(row: dict[str, Any], before: str = "") -> dict[str, Any]:
    """The figures of a row; those of a dict in it have its name before theirs."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        key = f"{before}{name}"
        flat |= _flat(value, f"{key}, ") if _is_row(value) else {key: value}
    return flat


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
