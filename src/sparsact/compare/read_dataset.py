"""Read a data set: an embedded one, a table, arrays or a folder of images."""

import csv
import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sparsact._common.errors import InputError, MissingInputError, unknown
from sparsact._common.extras import require
from sparsact._common.table_cells import number_in

EMBEDDED = ("digits", "breast_cancer", "diabetes")
FEATURE_ADVICE = "; features must be numbers (name the column to predict with target=)"
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Dataset:
    """Inputs and targets, as read.

    Attributes:
        name: its name in tables and titles.
        x: (samples, features) float64, finite.
        y: (samples,) labels or values, or None when there is nothing to predict.
        columns: a name per feature.
    """

    name: str
    x: Floats
    y: NDArray[np.generic] | None
    columns: tuple[str, ...]


def load(source: str, target: str | None, image_size: int) -> Dataset:
    """Read a data set.

    Args:
        source: ``digits``, ``breast_cancer``, ``diabetes``, a ``.npz`` with x (and y), a
            ``.csv`` with a header, or a folder of images with one sub-folder per class.
        target: the column of a ``.csv`` to predict.
        image_size: side in pixels to which the images of a folder are resized.

    Raises:
        InputError: the source does not exist or cannot be used.
    """
    path = Path(source)
    readers: dict[str, Callable[[Path], Dataset]] = {
        ".npz": _read_npz,
        ".csv": lambda path: _read_csv(path, target),
    }
    if target is not None and path.suffix.lower() != ".csv":
        raise InputError(f"target= names a column of a .csv; {source!r} is not one")
    if source in EMBEDDED:
        dataset = _load_embedded(source)
    elif path.is_dir():
        dataset = _read_images(path, image_size)
    elif path.suffix.lower() in readers:
        if not path.is_file():
            raise MissingInputError(f"no such file: {source}")
        dataset = readers[path.suffix.lower()](path)
    elif path.exists():
        raise InputError(f"{source} is neither a .npz, a .csv nor a folder of images")
    elif path.suffix or len(path.parts) > 1:
        raise MissingInputError(f"no such file: {source}")
    else:
        raise unknown("data set", source, EMBEDDED)
    _check_finite(dataset, source)
    return dataset


def _load_embedded(name: str) -> Dataset:
    datasets = require("sklearn.datasets", "compare")
    bunch = getattr(datasets, f"load_{name}")()
    return Dataset(name, np.asarray(bunch.data, np.float64), bunch.target, _names(bunch))


def _names(bunch: dict[str, list[str]]) -> tuple[str, ...]:
    return tuple(str(name) for name in bunch["feature_names"])


def _read_npz(path: Path) -> Dataset:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            by_name = {key: arrays[key] for key in arrays.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not a .npz of plain numeric arrays") from error
    if "x" not in by_name:
        raise InputError(f"{path} must hold an array 'x'; it holds {sorted(by_name) or 'nothing'}")
    x, y = by_name["x"], by_name.get("y")
    if x.ndim < 2 or not (np.issubdtype(x.dtype, np.number) or x.dtype == bool):
        raise InputError(
            f"{path}: x must be a numeric (samples, …) array, got {x.dtype} of shape {x.shape}"
        )
    if np.iscomplexobj(x):
        raise InputError(f"{path}: x is complex; split it into real and imaginary parts")
    if y is not None and y.shape != (len(x),):
        raise InputError(f"{path}: y must have shape ({len(x)},) to match x, got {y.shape}")
    x = x.reshape(len(x), -1).astype(np.float64)
    return Dataset(path.stem, x, y, tuple(str(i) for i in range(x.shape[1])))


def _read_csv(path: Path, target: str | None) -> Dataset:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not readable as UTF-8 CSV: {error}") from error
    if len(rows) < 2:
        raise InputError(f"{path} must hold a header and at least one row")
    header, body = [name.strip() for name in rows[0]], rows[1:]
    if len(header) == 1 and any(mark in header[0] for mark in ";\t"):
        raise InputError(
            f"{path}: the header is one column, {header[0]!r}: separate columns by commas"
        )
    if target is not None and header.count(target) > 1:
        raise InputError(f"{path} has {header.count(target)} columns named {target!r}")
    if target is not None and target not in header:
        raise unknown("target= column", target, header)
    for number, row in enumerate(body, 1):
        if len(row) != len(header):
            raise InputError(
                f"{path}: row {number} has {len(row)} cells, the header has {len(header)}"
            )
    features = [i for i, name in enumerate(header) if name != target]
    if not features:
        raise InputError(f"{path} has no column besides the target {target!r}")
    x = np.array(
        [
            [
                number_in(row[i], f"{path}: row {number}, column {header[i]!r}", FEATURE_ADVICE)
                for i in features
            ]
            for number, row in enumerate(body, 1)
        ]
    )
    y = None if target is None else _target(path, [row[header.index(target)] for row in body])
    return Dataset(path.stem, x, y, tuple(header[i] for i in features))


def _target(path: Path, cells: list[str]) -> NDArray[np.generic]:
    """Numbers if every cell is one, else labels."""
    cells = [cell.strip() for cell in cells]
    if "" in cells:
        raise InputError(f"{path}: row {cells.index('') + 1} has an empty target")
    try:
        return np.array([float(cell) for cell in cells])
    except ValueError:
        return np.array(cells)


def _read_images(folder: Path, size: int) -> Dataset:
    image_module = require("PIL.Image", "compare")
    unreadable = require("PIL", "compare").UnidentifiedImageError
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise InputError(f"{folder} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    rows = []
    for path in paths:
        try:
            with image_module.open(path) as image:
                rows.append(np.asarray(image.convert("RGB").resize((size, size)), np.float64))
        except (unreadable, OSError) as error:
            raise InputError(f"{path} is not a readable image: {error}") from error
    pixels = np.stack(rows) / 255
    if (pixels == pixels[..., :1]).all():
        pixels = pixels[..., :1]
    x = pixels.reshape(len(pixels), -1)
    labels = [path.relative_to(folder).parts[0] for path in paths]
    nested = all(len(path.relative_to(folder).parts) > 1 for path in paths)
    y = np.array(labels) if nested else None
    return Dataset(folder.name, x, y, tuple(f"pixel {i}" for i in range(x.shape[1])))


def _check_finite(dataset: Dataset, source: str) -> None:
    places = np.argwhere(~np.isfinite(dataset.x))
    if len(places):
        row, column = (int(i) for i in places[0])
        raise InputError(
            f"{source}: row {row + 1}, column {dataset.columns[column]!r} is "
            f"{dataset.x[row, column]} ({len(places)} such cells in all); drop or fill them"
        )
    y = dataset.y
    if y is not None and np.issubdtype(y.dtype, np.floating):
        for row, value in enumerate(y.tolist()):
            if not math.isfinite(value):
                raise InputError(f"{source}: the target in row {row + 1} is {value}")
