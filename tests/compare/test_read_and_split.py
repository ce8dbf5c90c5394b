"""Reading and splitting data; each fault has its message."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sparsact._common.errors import InputError
from sparsact.compare.data import Dataset, SplitData, load, split
from sparsact.compare.saved_model import Standardise

RNG = np.random.default_rng(0)


def read(source: Path | str, target: str | None = None, image_size: int = 4) -> Dataset:
    return load(str(source), target, image_size)


def features(dataset: Dataset) -> np.ndarray:
    assert dataset.encoder is not None
    return dataset.encoder.fit(dataset.x).encode(dataset.x)


def make(y: object = None, samples: int = 100, **changes: object) -> Dataset:
    x = RNG.normal(3, 2, (samples, 3))
    fields = {
        "name": "made",
        "x": x,
        "y": None if y is None else np.asarray(y),
        "columns": ("a", "b", "c"),
    }
    return Dataset(**{**fields, **changes})


def parts(data: SplitData) -> list[int]:
    return [len(part.x) for part in (data.train, data.validation, data.test)]


@pytest.mark.parametrize(
    ("name", "task", "shape"),
    [
        ("digits", "classify", (1797, 64)),
        ("breast_cancer", "classify", (569, 30)),
        ("diabetes", "regress", (442, 10)),
    ],
)
def test_embedded(name: str, task: str, shape: tuple[int, int]) -> None:
    dataset = read(name)
    assert dataset.x.shape == shape
    assert len(dataset.columns) == shape[1]
    assert split(dataset, None).task == task


def test_npz_is_flattened(tmp_path: Path) -> None:
    x, y = RNG.normal(size=(30, 2, 3)), np.arange(30) % 2
    np.savez(tmp_path / "a.npz", x=x, y=y)
    dataset = read(tmp_path / "a.npz")
    np.testing.assert_array_equal(dataset.x, x.reshape(30, 6))
    np.testing.assert_array_equal(dataset.y, y)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"z": np.ones(3)}, "must hold an array 'x'"),
        ({"x": np.ones(3)}, "numeric"),
        ({"x": np.array([["a"]])}, "numeric"),
        ({"x": np.ones((3, 2), complex)}, "complex"),
        ({"x": np.ones((3, 2)), "y": np.ones(2)}, r"y must have shape \(3,\)"),
        ({"x": np.ones((3, 2)), "y": np.ones((3, 2, 2))}, r"y must have shape \(3,\)"),
        ({"x": np.array([[1, 2], [3, np.nan]])}, "row 2, column '1' is nan"),
        ({"x": np.ones((2, 2)), "y": np.array([1, np.inf])}, "target in row 2 is inf"),
        ({"x": np.array([[None, 1]], object)}, "not a \\.npz of plain numeric"),
    ],
)
def test_npz_faults(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "a.npz")


def test_a_text_file_named_npz_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_text("not a zip")
    with pytest.raises(InputError, match=r"not a \.npz of plain numeric"):
        read(tmp_path / "a.npz")


def test_csv_with_and_without_target(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\ufeffa, kind ,b\n1,x,2\n\n3,y,4e1\n", encoding="utf-8")
    dataset = read(path, "kind")
    assert dataset.columns == ("a", "b")
    assert features(dataset).tolist() == [[1, 2], [3, 40]]
    assert dataset.y is not None
    assert dataset.y.tolist() == ["x", "y"]
    path.write_text("a,b\n1,2\n")
    assert read(path).y is None
    assert read(path, "b").y.tolist() == [2.0]


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("a,b\n1,2\nx,3\n", None, "row 2, column 'a' is text: 'x'"),
        ("a,b\n1,2\n3\n", None, "row 2 has 1 cells, the header has 2"),
        ("a,b\n1,inf\n", None, "row 1, column 'b' is inf"),
        ("a,b\n", None, "at least one row"),
        ("", None, "at least one row"),
        ("a,species\n1,2\n", "specis", "did you mean 'species'"),
        ("a\n1\n", "a", "no column besides"),
        ("a,b\n1,2\n1,\n", "b", "row 2 has an empty target"),
        ("a,b\n1,2\n1,nan\n", "b", "row 2 has an empty target"),
        ("a,b\n1,2\n1,inf\n", "b", "target in row 2 is inf"),
    ],
)
def test_csv_faults(tmp_path: Path, text: str, target: str | None, message: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "a.csv", target)


def test_csv_with_the_target_twice(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,label,c,label\n1,2,3,yes\n")
    with pytest.raises(InputError, match="has 2 columns named 'label'"):
        read(path, "label")


def save_image(path: Path, colour: tuple[int, ...], mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (9, 7), colour if mode == "RGB" else colour[0]).save(path)


def test_images_in_a_folder_per_class(tmp_path: Path) -> None:
    for i in range(3):
        save_image(tmp_path / "red" / f"{i}.png", (255, 0, 0))
        save_image(tmp_path / "blue" / f"{i}.bmp", (0, 0, 51))
    (tmp_path / "red" / "notes.txt").write_text("no image")
    dataset = read(tmp_path)
    assert dataset.x.shape == (6, 4 * 4 * 3)
    assert dataset.y is not None
    assert dataset.y.tolist() == ["blue"] * 3 + ["red"] * 3
    np.testing.assert_allclose(dataset.x[0], [0, 0, 0.2] * 16)


def test_grey_images_have_one_channel_and_a_flat_folder_no_classes(tmp_path: Path) -> None:
    for i in range(3):
        save_image(tmp_path / f"{i}.png", (i * 100,), "L")
    dataset = read(tmp_path)
    assert dataset.x.shape == (3, 16)
    assert dataset.y is None


def test_image_faults(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no images"):
        read(tmp_path)
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(InputError, match=r"a\.png is not a readable image"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("digts", None, "did you mean 'digits'"),
        ("missing.csv", None, "no such file"),
        ("some/where", None, "no such file"),
        ("digits", "x", "target= names a column"),
    ],
)
def test_unknown_sources(source: str, target: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(source, target)


def test_split_sizes_and_stratification() -> None:
    data = split(make([0] * 80 + [1] * 20), None)
    assert parts(data) == [60, 20, 20]
    assert [int(part.y.sum()) for part in (data.train, data.validation, data.test)] == [12, 4, 4]
    assert data.outputs == 2


def test_split_is_the_same_every_time_and_covers_every_sample() -> None:
    x = np.arange(50.0)[:, None]
    first, second = (split(make(x=x, columns=("a",)), None) for _ in range(2))
    assert torch.equal(first.train.x, second.train.x)
    assert first.fingerprint == second.fingerprint
    together = torch.cat([part.x for part in (first.train, first.validation, first.test)])
    raw = (together * first.scale + first.mean).sort(0).values
    expected = torch.arange(50.0, dtype=torch.float64)[:, None]
    torch.testing.assert_close(raw, expected, rtol=0, atol=1e-4)


def test_fingerprint_follows_the_data() -> None:
    x = RNG.normal(size=(30, 3))
    changed = x.copy()
    changed[7, 1] += 1e-9
    assert split(make(x=x), None).fingerprint != split(make(x=changed), None).fingerprint


def test_standardised_with_the_training_part_only() -> None:
    data = split(make(RNG.normal(5, 3, 100)), "regress")
    for values in (data.train.x, data.train.y):
        torch.testing.assert_close(values.mean(0), torch.zeros(values.shape[1]), atol=1e-6, rtol=0)
        ones = torch.ones(values.shape[1])
        torch.testing.assert_close(values.std(0, correction=0), ones, atol=1e-6, rtol=0)
    assert data.test.x.mean(0).abs().max() > 1e-3  # its own mean was not used


def test_constant_column_is_kept_and_noted() -> None:
    dataset = make(RNG.normal(size=100))
    dataset.x[:, 1] = 7
    data = split(dataset, None)
    (note,) = data.notes
    assert "1 of 3 columns" in note
    assert "(b)" in note
    assert torch.equal(data.train.x[:, 1], torch.zeros(60))
    assert data.train.x.isfinite().all()
    assert split(make(), None).notes == ()


@pytest.mark.parametrize(
    ("y", "task"),
    [
        (None, "reconstruct"),
        (["a", "b"] * 50, "classify"),
        ([0, 1] * 50, "classify"),
        ([0.0, 1.0] * 50, "classify"),
        ([True, False] * 50, "classify"),
        ([0.5, 1.5] * 50, "regress"),
        (list(range(100)), "regress"),
    ],
)
def test_task_is_inferred(y: list[object] | None, task: str) -> None:
    assert split(make(y), None).task == task


def test_reconstruct_has_its_input_as_target() -> None:
    data = split(make([0, 1] * 50), "reconstruct")
    assert torch.equal(data.train.x, data.train.y)
    assert data.outputs == 3


@pytest.mark.parametrize(
    ("dataset", "task", "message"),
    [
        (make(samples=19), None, "19 samples; at least 20"),
        (make(["a"] * 99 + ["b"]), None, r"class b has 1 sample\(s\)"),
        (make(["a"] * 100), None, "one class only: a"),
        (make(), "classify", "nothing to predict"),
        (make(["a", "b"] * 50), "regress", "numbers, but row 1 of the target is 'a'"),
        (make([1.5] * 100), "regress", "1.5 everywhere"),
        (make([0.5] + [0] * 99), "regress", "same for every sample of the"),
        (make(x=np.ones((100, 3))), None, "same for every sample of the training part"),
    ],
)
def test_split_faults(dataset: Dataset, task: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        split(dataset, task)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-5])
def test_a_constant_that_is_not_exact_in_binary(value: float) -> None:
    """Its deviation is computed as 1e-17; dividing by that would blow up rounding errors."""
    dataset = make(y=RNG.normal(size=100))
    dataset.x[:, 1] = value
    data = split(dataset, "regress")
    assert data.scale[1] == 1
    assert "1 of 3 columns have no variance" in data.notes[0]
    assert float(data.test.x[:, 1].abs().max()) < 1e-6


def test_a_large_offset_is_kept() -> None:
    """Such as a time in seconds, where float32 has steps of 128."""
    dataset = make(y=RNG.normal(size=100))
    dataset.x[:, 2] = 1.7e9 + 60 * RNG.normal(size=100)
    data = split(dataset, "regress")
    model = Standardise(data.mean, data.scale)
    standardised = model(torch.from_numpy(dataset.x))
    assert standardised.dtype == torch.float32
    np.testing.assert_allclose(standardised.std(0), 1, atol=0.2)
    expected = (dataset.x - data.mean.numpy()) / data.scale.numpy()
    np.testing.assert_allclose(standardised, expected, atol=1e-5)


def test_classes_and_target_scale_explain_the_outputs() -> None:
    data = split(make(y=np.repeat(["no", "yes"], 50)), None)
    assert data.classes == ("no", "yes")
    assert data.columns == ("a", "b", "c")
    y = 5 + 3 * RNG.normal(size=100)
    data = split(make(y=y), "regress")
    back = torch.cat([part.y for part in (data.train, data.validation, data.test)])
    back = back * data.target_scale + data.target_mean
    np.testing.assert_allclose(np.sort(back[:, 0]), np.sort(y), rtol=1e-5)


@pytest.mark.parametrize("where", ["x", "y"])
def test_values_too_large_to_be_standardised(where: str) -> None:
    dataset = make(y=RNG.normal(size=100))
    if where == "x":
        dataset.x[:, 1] *= 1e300
    else:
        dataset.y[:] *= 1e300
    with pytest.raises(InputError, match=r"the values of (b|the target), up to .*too large"):
        split(dataset, "regress")


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("regress", "task=regress needs numbers, but row 18 of the target is 'NA'"),
        (None, r"or use task=regress once all are numbers \(row 18 of the target is 'NA'\)"),
    ],
)
def test_a_number_that_is_missing_is_named(task: str | None, message: str) -> None:
    y = [f"{number:.3f}" for number in RNG.normal(size=100)]
    y[17] = "NA"
    with pytest.raises(InputError, match=message):
        split(make(y=y), task)
