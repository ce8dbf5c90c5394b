"""From the columns of a table to features, targets, groups and parts."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsact._common.errors import InputError, MissingInputError, unknown
from sparsact.compare.data.cells import MISSING, as_text, date_formats, to_dates, to_numbers
from sparsact.compare.data.column import Column
from sparsact.compare.data.dataset import PARTS, Dataset
from sparsact.compare.data.other_tables import EXCEL, PARQUET, read_excel, read_parquet
from sparsact.compare.data.part_names import PART_NAMES
from sparsact.compare.data.reading import Reading, names_in
from sparsact.compare.data.recognise_columns import as_numbers, guess_marks, recognise
from sparsact.compare.data.table_encoder import Frame, TableEncoder
from sparsact.compare.data.text_table import (
    RawTable,
    is_text_table,
    read_text_table,
    table_name,
)

MARKS = {"point": ".", "comma": ","}


def is_table(path: Path) -> bool:
    """Whether the name is that of a table."""
    return is_text_table(path) or path.suffix.lower() in (*PARQUET, *EXCEL)


def read_table(path: Path, target: str | None, reading: Reading) -> Dataset:
    """Read a table; its cells are encoded by `split`, once the training part is known.

    Raises:
        InputError: the table, or what is said about it, cannot be used.
    """
    raw = _read(path, reading.header)
    columns = _Columns(path, raw, reading)
    frame = columns.frame
    targets = [] if target is None else columns.targets(target)
    y, kept, target_note = columns.target_values(targets)
    roles = columns.roles(kept)
    left_out = {*names_in(reading.ignore), *targets}
    left_out |= {name for name in (reading.split, reading.group) if name is not None}
    frame = frame[[name for name in frame.columns if name not in left_out]]
    features = columns.recognise_features(frame, set(names_in(reading.categories)))
    if not features:
        wherefrom = f" besides the target {target!r}" if targets else ""
        raise InputError(f"{path} has no column{wherefrom}")
    return Dataset(
        name=table_name(path),
        x=_typed(frame, features)[kept].reset_index(drop=True),
        y=y,
        columns=tuple(column.name for column in features),
        target=tuple(targets),
        encoder=TableEncoder(tuple(features)),
        notes=(*raw.notes, *columns.notes, *target_note),
        **roles,
    )


def _read(path: Path, header: str) -> RawTable:
    suffix = path.suffix.lower()
    if suffix in PARQUET:
        return read_parquet(path)
    return read_excel(path, header) if suffix in EXCEL else read_text_table(path, header)


@dataclass
class _Columns:
    """The columns of a table, and what is said about them."""

    path: Path
    raw: RawTable
    reading: Reading

    def __post_init__(self) -> None:
        self.notes: list[str] = []
        self.names = [str(name) for name in self.raw.frame.columns]
        self.frame = self.raw.frame.copy(deep=False)
        self.frame.columns = _distinct(self.names)
        renamed = sorted(set(self.frame.columns).difference(self.names))
        if renamed:
            names = ", ".join(map(repr, renamed[:3])) + ", …" * (len(renamed) > 3)
            self.notes.append(f"columns whose name is taken get another one: {names}")
        self.words = names_in(self.reading.missing)
        if self.reading.decimal == "auto":
            self.marks = guess_marks(self.frame, self.raw.separator)
        else:
            self.marks = MARKS[self.reading.decimal]
        for argument in ("ignore", "categories", "group", "time"):
            text = getattr(self.reading, argument)
            for name in names_in(text) if argument in ("ignore", "categories") else [text]:
                if name is not None:
                    self._check(argument, name)

    def _check(self, argument: str, name: str) -> None:
        if name not in self.frame.columns:
            raise unknown(f"{argument}= column", name, list(self.frame.columns))

    def targets(self, target: str) -> list[str]:
        """The columns to predict; one may have a comma in its name."""
        chosen = [target] if target in self.names else names_in(target) or [target]
        for name in chosen:
            if self.names.count(name) > 1:
                count = self.names.count(name)
                raise InputError(f"{self.path} has {count} columns named {name!r}")
            self._check("target", name)
            if name in (*names_in(self.reading.ignore), self.reading.split, self.reading.group):
                raise InputError(f"target= {name!r} has another use too: leave that out")
        return list(dict.fromkeys(chosen))

    def target_values(
        self, targets: Sequence[str]
    ) -> tuple[NDArray[Any] | None, NDArray[np.bool_], list[str]]:
        """The target, the rows that have one, and a note about those that do not."""
        known = np.ones(len(self.frame), bool)
        if not targets:
            return None, known, []
        missing = (*MISSING, *self.words)
        for name in targets:
            known &= as_text(self.frame[name], missing).notna().to_numpy()
        if 2 * known.sum() <= len(known):
            row = int(np.flatnonzero(~known)[0])
            raise InputError(
                f"{self.path}: row {row + 1} has an empty target (empty in {(~known).sum()} of "
                f"{len(known)} rows)"
            )
        values = [self._target(name, self.frame[name][known]) for name in targets]
        notes = []
        if not known.all():
            row = int(np.flatnonzero(~known)[0]) + 1
            count = int((~known).sum())
            notes = [f"rows without a target are left out: {count}, the first is row {row}"]
        if len(values) == 1:
            return values[0], known, notes
        for name, value in zip(targets, values, strict=True):
            if value.dtype.kind not in "biuf":
                raise InputError(f"several targets must be numbers, but {name!r} holds text")
        return np.column_stack([value.astype(np.float64) for value in values]), known, notes

    def _target(self, name: str, cells: Any) -> NDArray[Any]:
        """Numbers if every cell is one, else labels."""
        if cells.dtype.kind in "biuf":
            plain: NDArray[Any] = cells.to_numpy()
            return plain if plain.dtype.kind in "bi" else plain.astype(np.float64)
        text = as_text(cells, ())
        numbers = as_numbers(text, self.marks)[2].to_numpy(np.float64)
        if not np.isnan(numbers).any():
            return np.asarray(numbers)
        formats = date_formats(text)
        if cells.dtype.kind == "M" or (formats and to_dates(text, formats[0]).notna().all()):
            raise InputError(f"the target {name!r} holds dates: give it as a number or a class")
        return np.array(text.tolist())

    def roles(self, kept: NDArray[np.bool_]) -> dict[str, Any]:
        """The groups, times and parts of the rows with a target."""
        roles: dict[str, Any] = {}
        if self.reading.group is not None:
            groups = as_text(self.frame[self.reading.group], (*MISSING, *self.words))
            self._refuse_missing("group", groups)
            roles["groups"] = np.array(groups.tolist())[kept]
        if self.reading.time is not None:
            roles["times"] = self._times(self.reading.time)[kept]
        if self.reading.split is not None:
            roles["parts"] = self._parts(self.reading.split)[kept]
        return roles

    def _refuse_missing(self, argument: str, cells: Any) -> None:
        if bool(cells.isna().any()):
            row = int(np.flatnonzero(cells.isna())[0]) + 1
            name = getattr(self.reading, argument)
            raise InputError(f"row {row} of the {argument}= column {name!r} is empty")

    def _times(self, name: str) -> NDArray[Any]:
        """Numbers that order the rows by a column of dates or numbers."""
        cells = self.frame[name]
        column = recognise(name, cells, self.marks, self.words)
        if column is None or column.kind not in ("number", "date"):
            raise InputError(f"time= column {name!r} holds neither dates nor numbers")
        if cells.dtype.kind not in "biufM":
            text = as_text(cells, column.missing)
            is_date = column.kind == "date"
            cells = (
                to_dates(text, column.date_format) if is_date else to_numbers(text, column.decimal)
            )
        self._refuse_missing("time", cells)
        ranks: NDArray[Any] = cells.rank(method="dense").to_numpy(np.float64)
        return ranks

    def _parts(self, source: str) -> NDArray[np.str_]:
        """The part of each row, from a column or a file with a row for each."""
        if source in self.frame.columns:
            cells, place = self.frame[source], f"split= column {source!r}"
        else:
            cells, place = self._cells_of_file(source), source
        names = [str(cell).strip().lower() for cell in cells]
        strange = next((row for row, name in enumerate(names) if name not in PART_NAMES), None)
        if strange is not None:
            raise InputError(
                f"row {strange + 1} of {place} is {cells.iloc[strange]!r}; it must be one of "
                f"{', '.join(PARTS)}"
            )
        return np.array([PART_NAMES[name] for name in names])

    def _cells_of_file(self, source: str) -> Any:
        if not Path(source).is_file():
            if Path(source).suffix or "/" in source:
                raise MissingInputError(f"split= names no column and no file: {source}")
            raise unknown("split= column or file", source, list(self.frame.columns))
        try:
            content = Path(source).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"split= file {source} cannot be read as text: {error}") from error
        lines = [line.strip() for line in content.splitlines() if line.strip()]
        if len(lines) == len(self.frame) + 1:  # a header
            lines = lines[1:]
        if len(lines) != len(self.frame):
            raise InputError(
                f"{source} has {len(lines)} rows, but {self.path} has {len(self.frame)}"
            )
        return self.frame.index.to_series().map(dict(enumerate(lines)))

    def recognise_features(self, frame: Frame, categories: set[str]) -> list[Column]:
        """How each column is read; those without a value are left out."""
        columns, empty = [], []
        for place, name in enumerate(frame.columns):
            cells = frame.iloc[:, place]
            if _is_unnamed_index(name, cells):
                self.notes.append(f"{name!r} is left out: it has no name and numbers the rows")
                continue
            try:
                column = recognise(name, cells, self.marks, self.words, name in categories)
            except InputError as error:
                raise InputError(f"{self.path}: {error}") from error
            if column is None:
                empty.append(name)
            else:
                columns.append(column)
        if empty:
            names = ", ".join(repr(name) for name in empty[:3]) + ", …" * (len(empty) > 3)
            self.notes.append(f"columns without any value are left out: {names}")
        return columns


def _typed(frame: Frame, columns: Sequence[Column]) -> Frame:
    """The columns that are used, with numbers and times in place of their text."""
    names = [column.name for column in columns]
    return frame[names].assign(**{c.name: c.typed(frame[c.name]) for c in columns})


def _distinct(names: list[str]) -> list[str]:
    """The same names; a repeated one gets the first number that no other name has."""
    taken = set(names)
    result: list[str] = []
    for name in names:
        if name in result:
            numbered = (f"{name}.{number}" for number in count(1))
            name = next(other for other in numbered if other not in taken)
            taken.add(name)
        result.append(name)
    return result


def _is_unnamed_index(name: str, cells: Any) -> bool:
    """Whether a column is the index that pandas and R write without a name."""
    if not (name == "column 1" or name.startswith(("Unnamed: 0", "__index_level_"))):
        return False
    numbers = to_numbers(as_text(cells, ()), ".").to_numpy()
    return bool((numbers == np.arange(len(numbers)) + numbers[0]).all()) and numbers[0] in (0, 1)
