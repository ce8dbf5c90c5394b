"""A table in a text file: encoding, separator, comments and header are recognised."""

import bz2
import csv
import gzip
import itertools
import lzma
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsact._common.errors import InputError
from sparsact._common.extras import require
from sparsact._common.table_cells import is_number

SUFFIXES = (".csv", ".tsv", ".tab", ".txt", ".data")
DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
}
SEPARATORS = "\t;,|"
SAMPLE_ROWS = 500
COMMENT = re.compile(r"#(?!N/A|NA\b|DIV/0!|VALUE!|REF!|NAME\?)")  # these are cells of Excel
SPACES = re.compile(r"[ \t]+")
NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True)
class RawTable:
    """The cells of a file, as text or as the file types them.

    Attributes:
        frame: a DataFrame whose columns have the names in the file, which may repeat.
        separator: what separates its cells; empty in a format that needs none.
        notes: what was recognised, if it is not a matter of course.
    """

    frame: Any
    separator: str
    notes: tuple[str, ...]


def is_text_table(path: Path) -> bool:
    """Whether the name is that of a text table, compressed or not."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in DECOMPRESS:
        suffixes.pop()
    return bool(suffixes) and suffixes[-1] in SUFFIXES


def table_name(path: Path) -> str:
    """The name of a file without the endings that say its format."""
    return Path(path.stem).stem if path.suffix.lower() in DECOMPRESS else path.stem


def read_text_table(path: Path, header: str) -> RawTable:
    """Read a text table.

    Args:
        path: of the file.
        header: ``yes``, ``no``, or ``auto`` to look at the first rows.

    Raises:
        InputError: it is no text, or its rows have different lengths.
    """
    notes: list[str] = []
    text = _decode(path, _bytes(path), notes)
    lines, comment = _without_comments(text, notes)
    separator = _separator(lines)
    if separator is None:
        lines = [SPACES.sub("\t", line.strip()) for line in lines]
        comment, separator = SPACES.sub("\t", comment), "\t"
        notes.append("cells are separated by spaces")
    elif separator != ",":
        notes.append(f"cells are separated by {NAMES[separator]}")
    sample = _rows(lines[:SAMPLE_ROWS], separator)
    in_comment = header == "auto" and _is_header(comment, sample, separator)
    named = header == "yes" or (header == "auto" and not in_comment and has_header(sample))
    if named and _is_short_of_one(sample):  # R gives the column of row names no name
        lines[0], sample[0] = separator + lines[0], ["", *sample[0]]
    names = _rows([comment], separator)[0] if in_comment else sample[0] if named else None
    frame = _parse(path, "\n".join(lines), separator, len(sample[0]) if sample else 0, named)
    if not len(frame):
        raise InputError(f"{path} must hold a header and at least one row")
    frame.columns = column_names(names, frame.shape[1], notes)
    return RawTable(frame, separator, tuple(notes))


def has_header(rows: list[list[str]]) -> bool:
    """Whether the first of some rows names the columns.

    Numbers are no names, unless they count: years, or positions. Names do not occur below.
    """
    if not rows:
        return False
    first, body = [cell.strip() for cell in rows[0]], rows[1:]
    numbers = [float(cell) for cell in first if is_number(cell)]
    if numbers:
        counting = all(b - a == 1 for a, b in itertools.pairwise(numbers))
        return counting and numbers[0].is_integer() and (len(numbers) > 1 or _is_year(rows))
    below: list[set[str]] = [set() for _ in first]
    for row in body:
        for place, cell in enumerate(row[: len(first)]):
            below[place].add(cell.strip())
    repeated = sum(bool(cell) and cell in seen for cell, seen in zip(first, below, strict=True))
    return not repeated or 2 * repeated < len([cell for cell in first if cell])


def _is_year(rows: list[list[str]]) -> bool:
    """Whether the only number of the first row is a year, and its column holds no years."""
    place = next(place for place, cell in enumerate(rows[0]) if is_number(cell))
    column = [row[place] for row in rows if len(row) > place and is_number(row[place])]
    return [1900 <= float(cell) <= 2100 for cell in column].count(True) == 1


def _is_header(comment: str, sample: list[list[str]], separator: str) -> bool:
    """Whether the comment above a table without a header names its columns."""
    names = _rows([comment], separator) if comment and sample else []
    if not names or len(names[0]) != len(sample[0]) or len(names[0]) == 1:
        return False
    return any(map(is_number, sample[0])) and not any(map(is_number, names[0]))


def _is_short_of_one(rows: list[list[str]]) -> bool:
    """Whether the first row has one cell less than each of the others."""
    return len(rows) > 1 and {len(row) for row in rows[1:]} == {len(rows[0]) + 1}


def column_names(header: list[str] | None, width: int, notes: list[str]) -> list[str]:
    """A name per column; a column without one has its position as its name."""
    if header is None:
        notes.append(f"no header: the columns are named by their position, 1 to {width}")
        return [str(place) for place in range(1, width + 1)]
    return [name.strip() or f"column {place}" for place, name in enumerate(header, 1)]


def _bytes(path: Path) -> bytes:
    decompress = DECOMPRESS.get(path.suffix.lower())
    try:
        content = path.read_bytes()
        return content if decompress is None else decompress(content)
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _decode(path: Path, content: bytes, notes: list[str]) -> str:
    is_utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError:
        if is_utf16:
            raise InputError(f"{path} is not readable as UTF-16 text: save it as UTF-8") from None
        text = content.decode("cp1252", errors="replace")
        notes.append("the file is not UTF-8: it is read as Windows-1252")
    if "\0" in text:
        raise InputError(f"{path} is not readable as text: save the table as UTF-8 CSV")
    return text


def _without_comments(text: str, notes: list[str]) -> tuple[list[str], str]:
    """The lines with cells, and the last comment before them."""
    lines = [line for line in re.split(r"\r\n|\r|\n", text) if line.strip()]
    if lines and lines[0].lower().startswith("sep="):  # written by Excel
        lines = lines[1:]
    kept = [line for line in lines if not COMMENT.match(line)]
    first = next((place for place, line in enumerate(lines) if not COMMENT.match(line)), 0)
    comment = lines[first - 1].lstrip("#").strip() if first else ""
    if (kept and not comment and len(kept) < len(lines)) or len(lines) - len(kept) > 1:
        notes.append(f"lines that begin with # are left out: {len(lines) - len(kept)}")
    return kept, comment


def _separator(lines: list[str]) -> str | None:
    """What separates cells: the first mark that gives all rows one width; None for spaces."""
    sample = lines[:SAMPLE_ROWS]
    for mark in SEPARATORS:
        if _has_one_width(_rows(sample, mark)):
            return mark
    first = lines[0] if lines else ""
    present = [mark for mark in SEPARATORS if mark in first]
    by_spaces = [SPACES.split(line.strip()) for line in sample if '"' not in line]
    if not present and len(by_spaces) == len(sample) and _has_one_width(by_spaces):
        return None
    return max(present, key=first.count) if present else ","


def _has_one_width(rows: list[list[str]]) -> bool:
    """Whether all rows have the same number of cells, two or more; the first may lack one."""
    widths = {len(row) for row in rows[1:]} or {len(row) for row in rows}
    return len(widths) == 1 and min(widths) > 1 and min(widths) - len(rows[0]) in (0, 1)


def _rows(lines: list[str], separator: str) -> list[list[str]]:
    try:
        return [row for row in csv.reader(lines, delimiter=separator) if row]
    except csv.Error:
        return [line.split(separator) for line in lines]


def _parse(path: Path, text: str, separator: str, width: int, named: bool) -> Any:
    """The cells as text; the row of names is left out."""
    arrow, reader = require("pyarrow", "compare"), require("pyarrow.csv", "compare")
    faults: list[tuple[int, int]] = []

    def note_fault(row: Any) -> str:
        faults.append((row.number, row.actual_columns))
        return "skip"

    content = text.encode()
    try:
        table = reader.read_csv(
            arrow.BufferReader(content),
            read_options=reader.ReadOptions(
                use_threads=False, autogenerate_column_names=True, block_size=len(content) + 1024
            ),
            parse_options=reader.ParseOptions(
                delimiter=separator, newlines_in_values=True, invalid_row_handler=note_fault
            ),
            convert_options=reader.ConvertOptions(
                column_types={f"f{place}": arrow.string() for place in range(width)},
                strings_can_be_null=False,
            ),
        )
    except arrow.ArrowInvalid as error:
        if not width or "Empty" in str(error):
            raise InputError(f"{path} must hold a header and at least one row") from error
        raise InputError(f"{path} is not readable as a table: {error}") from error
    if faults:
        number, cells = faults[0]
        against = f"the header has {width}" if named else f"the first row has {width}"
        raise InputError(f"{path}: row {number - named} has {cells} cells, {against}")
    return table.to_pandas().iloc[int(named) :].reset_index(drop=True)
