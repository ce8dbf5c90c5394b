"""Read a data set: an embedded one, a table, arrays or a folder of images."""

import math
from pathlib import Path

import numpy as np

from sparsact._common.errors import InputError, MissingInputError, unknown
from sparsact._common.extras import require
from sparsact.compare.data.array_file import read_npz
from sparsact.compare.data.dataset import Dataset, Task
from sparsact.compare.data.image_folder import read_images
from sparsact.compare.data.reading import Reading
from sparsact.compare.data.table import is_table, read_table

EMBEDDED: dict[str, Task] = {
    "digits": "classify",
    "breast_cancer": "classify",
    "diabetes": "regress",
}
"""What is learned from the data sets of scikit-learn."""


def load(
    source: str, target: str | None = None, image_size: int = 32, reading: Reading | None = None
) -> Dataset:
    """Read a data set.

    Args:
        source: ``digits``, ``breast_cancer``, ``diabetes``, a ``.npz``, a table (``.csv``,
            ``.tsv``, ``.txt``, these compressed, ``.parquet``, ``.xlsx``), or a folder of images
            with one sub-folder per class.
        target: the column of a table to predict, or several, separated by commas.
        image_size: side in pixels to which the images of a folder are resized.
        reading: what else the user says about a table.

    Raises:
        InputError: the source does not exist or cannot be used.
    """
    path = Path(source)
    reading = reading or Reading()
    table = source not in EMBEDDED and is_table(path) and not path.is_dir()
    if target is not None and not table:
        raise InputError(f"target= names a column of a table; {source!r} is not one")
    reading.check(table, source)
    if source in EMBEDDED:
        dataset = _load_embedded(source)
    elif path.is_dir():
        dataset = read_images(path, image_size)
    elif table or path.suffix.lower() == ".npz":
        if not path.is_file():
            raise MissingInputError(f"no such file: {source}")
        dataset = read_table(path, target, reading) if table else read_npz(path)
    elif path.exists():
        raise InputError(
            f"{source} is neither a table (.csv, .tsv, .txt, .parquet, .xlsx), a .npz nor a "
            "folder of images"
        )
    elif path.suffix or len(path.parts) > 1:
        raise MissingInputError(f"no such file: {source}")
    else:
        raise unknown("data set", source, EMBEDDED)
    _check_finite(dataset, source)
    return dataset


def _load_embedded(name: str) -> Dataset:
    datasets = require("sklearn.datasets", "compare")
    bunch = getattr(datasets, f"load_{name}")()
    return Dataset(
        name,
        np.asarray(bunch.data, np.float64),
        bunch.target,
        tuple(str(column) for column in bunch["feature_names"]),
        image_shape=(8, 8, 1) if name == "digits" else None,
        task=EMBEDDED[name],
    )


def _check_finite(dataset: Dataset, source: str) -> None:
    if dataset.encoder is None:  # the cells of a table are checked where they are read
        places = np.argwhere(~np.isfinite(dataset.x))
        if len(places):
            row, column = (int(i) for i in places[0])
            raise InputError(
                f"{source}: row {row + 1}, column {dataset.columns[column]!r} is "
                f"{dataset.x[row, column]} ({len(places)} such cells in all); drop or fill them"
            )
    y = dataset.y
    if y is not None and np.issubdtype(y.dtype, np.floating):
        for row, value in enumerate(y.reshape(len(y), -1).sum(1).tolist()):
            if not math.isfinite(value):
                raise InputError(f"{source}: the target in row {row + 1} is {value}")
