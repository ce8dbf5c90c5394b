"""NPY arrays."""

from pathlib import Path

import numpy as np

from sparsact._common.errors import InputError
from sparsact.denoise.files.file_content import Array, Content, FileFormat, integer_peak


def read_npy(path: Path) -> Content:
    """An array of integers or floats: a signal if it has one dim, else images (…, H, W)."""
    values = np.load(path, allow_pickle=False)
    if values.dtype.kind not in "uif" or values.ndim == 0:
        raise InputError(
            f"{path} holds {values.dtype} of shape {values.shape}; expected an array of "
            "integers or floats"
        )

    def write(target: Path, blocks: list[Array]) -> None:
        with target.open("wb") as file:
            np.save(file, blocks[0])

    return Content([values], min(values.ndim, 2), None, integer_peak(values.dtype), write)


NPY = FileFormat("NPY", (".npy",), read_npy, options=("dims", "channel_dim"))
