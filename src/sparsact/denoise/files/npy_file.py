"""NPY and NPZ arrays."""

from pathlib import Path
from typing import Any

import numpy as np

from sparsact._common.errors import InputError, suggestion
from sparsact.denoise.files.file_content import Array, Content, FileFormat, integer_peak


def read_npy(path: Path) -> Content:
    """An array of integers or floats: a signal if it has one dim, else images (…, H, W)."""
    values = np.load(path, allow_pickle=False, mmap_mode="r")

    def write(target: Path, blocks: list[Array]) -> None:
        with target.open("wb") as file:
            np.save(file, blocks[0])

    return _content(values, str(path), write)


def read_npz(path: Path, column: str | None = None) -> Content:
    """One array of an NPZ; the other arrays are kept."""
    with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
        arrays: dict[str, Array] = {name: file[name] for name in file.files}
        packed = any(entry.compress_type for entry in file.zip.infolist())
    numeric = [n for n, values in arrays.items() if values.dtype.kind in "uif" and values.ndim]
    if column is None and len(numeric) == 1:
        column = numeric[0]
    if column is None:
        raise InputError(f"{path} has several arrays: choose a column= from {', '.join(numeric)}")
    if column not in arrays:
        hint = suggestion(column, numeric, otherwise=f"it has {', '.join(numeric)}")
        raise InputError(f"{path} has no array {column!r}; {hint}")

    def write(target: Path, blocks: list[Array]) -> None:
        new: dict[str, Any] = arrays | {column: blocks[0]}
        with target.open("wb") as file:
            (np.savez_compressed if packed else np.savez)(file, **new)

    return _content(arrays[column], f"{path}: {column}", write)


def _content(values: Array, place: str, write: Any) -> Content:
    if values.dtype.kind not in "uif" or values.ndim == 0:
        raise InputError(
            f"{place} holds {values.dtype} of shape {values.shape}; expected an array of "
            "integers or floats"
        )
    return Content([values], min(values.ndim, 2), None, integer_peak(values.dtype), write)


NPY = FileFormat(
    "NPY",
    (".npy",),
    read_npy,
    library="NumPy",
    extra="",
    keeps="dtype, byte order, shape",
    options=("dims", "channel_dim"),
)
NPZ = FileFormat(
    "NPZ",
    (".npz",),
    read_npz,
    library="NumPy",
    extra="",
    keeps="the other arrays, dtype, compression",
    options=("column", "dims", "channel_dim"),
)
