"""A table as people have them, made by pandas."""

from pathlib import Path

import numpy as np
import pandas as pd

from sparsact.compare.data import Dataset, Reading, load


def passengers(rows: int = 120) -> pd.DataFrame:
    """Categories, truth values, dates, whole and broken numbers, and missing cells."""
    rng = np.random.default_rng(0)
    age = pd.Series(rng.uniform(1, 80, rows).round(1))
    age[rng.random(rows) < 0.2] = np.nan
    port = pd.Series(rng.choice(["Cherbourg", "Queenstown", "Southampton"], rows))
    port[5] = None
    return pd.DataFrame(
        {
            "age": age,
            "siblings": rng.integers(0, 5, rows),
            "port": port,
            "alone": rng.choice([True, False], rows),
            "boarded": pd.Timestamp("1912-04-01") + pd.to_timedelta(rng.integers(0, 99, rows), "D"),
            "fare": rng.uniform(1000, 90000, rows).round(2),
            "survived": rng.choice(["yes", "no"], rows),
        }
    )


def read(path: Path, target: str | None = None, **said: str) -> Dataset:
    return load(str(path), target, 4, Reading(**said))


def features(dataset: Dataset) -> np.ndarray:
    """All rows, encoded with statistics of all rows."""
    assert dataset.encoder is not None
    return dataset.encoder.fit(dataset.x).encode(dataset.x)


def kinds(dataset: Dataset) -> list[str]:
    assert dataset.encoder is not None
    return [column.kind for column in dataset.encoder.columns]


def text(path: Path, content: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(content.encode(encoding))
    return path
