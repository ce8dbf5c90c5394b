"""Arrays in a ``.npz``: inputs and targets, in one piece or in parts."""

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsact._common.errors import InputError
from sparsact.compare.data.dataset import PARTS, Dataset, ImageShape
from sparsact.compare.data.part_names import PART_NAMES

INPUTS = ("x", "data", "features", "inputs", "images")
TARGETS = ("y", "target", "targets", "labels", "label")
COLUMN_NAMES = ("feature_names", "columns")
SMALLEST_IMAGE = 8
Arrays = dict[str, NDArray[Any]]


def read_npz(path: Path) -> Dataset:
    """Read ``x`` and ``y`` by one of their usual names, or ``x_train``, ``y_train`` and so on.

    Raises:
        InputError: it is no ``.npz``, or the arrays do not fit each other.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not a .npz of plain numeric arrays") from error
    by_part, used = _by_part(path, arrays)
    pieces = {part: _piece(path, arrays, *keys) for part, keys in by_part.items()}
    if len({x.shape[1:] for x, _ in pieces.values()}) > 1:
        shapes = ", ".join(f"{part} {x.shape}" for part, (x, _) in pieces.items())
        raise InputError(f"{path}: the inputs of the parts have different shapes: {shapes}")
    if len({None if y is None else y.shape[1:] for _, y in pieces.values()}) > 1:
        raise InputError(f"{path}: the targets of the parts have different shapes, or one has none")
    x = np.concatenate([x for x, _ in pieces.values()])
    targets = [y for _, y in pieces.values() if y is not None]
    columns, notes = _names(arrays, int(np.prod(x.shape[1:]))), []
    left_out = sorted(set(arrays) - used - set(COLUMN_NAMES))
    if left_out:
        notes.append(f"arrays that are not used: {', '.join(left_out)}")
    shape, x = _image_shape(x)
    parts = np.concatenate([np.full(len(x), part) for part, (x, _) in pieces.items()])
    return Dataset(
        path.stem,
        x.reshape(len(x), -1).astype(np.float64),
        np.concatenate(targets) if targets else None,
        columns,
        parts=None if set(pieces) == {""} else parts,
        image_shape=shape,
        default_network="mlp" if shape is None else "convnet",
        notes=tuple(notes),
    )


def _by_part(path: Path, arrays: Arrays) -> tuple[dict[str, tuple[str, str | None]], set[str]]:
    """Part → the keys of its inputs and targets (one part, "", if the file has no parts)."""
    by_part: dict[str, tuple[str, str | None]] = {}
    for part in ("", *PARTS):
        words = tuple(word for word, meant in PART_NAMES.items() if meant == part) or ("",)
        x, y = (_key(path, arrays, names, words) for names in (INPUTS, TARGETS))
        if x is not None:
            by_part[part] = (x, y)
    if not by_part:
        raise InputError(f"{path} must hold an array 'x'; it holds {sorted(arrays) or 'nothing'}")
    if "" in by_part and len(by_part) > 1:
        raise InputError(
            f"{path} holds both {by_part.pop('')[0]!r} and {next(iter(by_part.values()))[0]!r}: "
            "keep one of them"
        )
    if "" not in by_part and PARTS[0] not in by_part:
        raise InputError(f"{path} holds no inputs to train on, such as 'x_train'")
    return by_part, {key for keys in by_part.values() for key in keys if key is not None}


def _key(path: Path, arrays: Arrays, names: tuple[str, ...], words: tuple[str, ...]) -> str | None:
    """The key that is one of `names`, with one of `words` before or after it."""
    wanted = {name + word for name in names for word in words}
    wanted |= {word + name for name in names for word in words}
    found = [key for key in arrays if re.sub("[^a-z]", "", key.lower()) in wanted]
    if len(found) > 1:
        raise InputError(f"{path} holds both {found[0]!r} and {found[1]!r}: keep one of them")
    return found[0] if found else None


def _piece(
    path: Path, arrays: Arrays, x_key: str, y_key: str | None
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    x, y = arrays[x_key], None if y_key is None else arrays[y_key]
    if x.ndim < 2 or not (np.issubdtype(x.dtype, np.number) or x.dtype == bool):
        raise InputError(
            f"{path}: {x_key} must be a numeric (samples, …) array, got {x.dtype} of shape "
            f"{x.shape}"
        )
    if np.iscomplexobj(x):
        raise InputError(f"{path}: {x_key} is complex; split it into real and imaginary parts")
    if not x.size:
        raise InputError(f"{path}: {x_key} is empty, of shape {x.shape}")
    if y is not None and (y.ndim not in (1, 2) or len(y) != len(x) or y.shape[-1] == 0):
        raise InputError(
            f"{path}: {y_key} must have shape ({len(x)},) to match {x_key}, or ({len(x)}, "
            f"targets); got {y.shape}"
        )
    if y is not None and y.dtype.kind not in "biufUS":
        raise InputError(f"{path}: {y_key} must hold real numbers or text, got {y.dtype}")
    return x, y


def _names(arrays: Arrays, features: int) -> tuple[str, ...]:
    for key in COLUMN_NAMES:
        if key in arrays and arrays[key].shape == (features,):
            return tuple(str(name) for name in arrays[key])
    return tuple(str(i) for i in range(features))


def _image_shape(x: NDArray[Any]) -> tuple[ImageShape | None, NDArray[Any]]:
    """Height, width and channels if the inputs look like images, and these with channels last."""
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim == 4 and x.shape[1] in (1, 3) and x.shape[3] not in (1, 3):
        x = np.moveaxis(x, 1, 3)
    if x.ndim != 4 or x.shape[3] not in (1, 3) or min(x.shape[1:3]) < SMALLEST_IMAGE:
        return None, x
    height, width, channels = (int(side) for side in x.shape[1:])
    return (height, width, channels), x
