"""The parts that data bring along, targets of any shape, and what is said about the data."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_iris

from made_tables import passengers, read, text
from sparsact._common.errors import InputError
from sparsact._common.progress import silent
from sparsact.compare import CompareConfig, Comparison, load_model
from sparsact.compare.data import Dataset, SplitData, load, split

RNG = np.random.default_rng(0)


def part_of(data: SplitData, column: str) -> list[np.ndarray]:
    """The raw values of a column of numbers in each part."""
    place = data.columns.index(column)
    mean, scale = float(data.mean[place]), float(data.scale[place])
    parts = (data.train, data.validation, data.test)
    return [part.x[:, place].double().numpy() * scale + mean for part in parts]


def numbered(rows: int = 100) -> pd.DataFrame:
    """A column `row` with the number of each row, in random order, and a target."""
    order = RNG.permutation(rows)
    return pd.DataFrame({"row": order, "z": RNG.normal(size=rows), "y": RNG.normal(size=rows)})


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "dev", "Holdout")])
@pytest.mark.parametrize("where", ["column", "file", "file with header"])
def test_split_by_name(tmp_path: Path, names: tuple[str, ...], where: str) -> None:
    table = numbered()
    part = RNG.choice(3, 100, p=[0.5, 0.3, 0.2])
    words = [names[i] for i in part]
    said = "part"
    if where == "column":
        table["part"] = words
    else:
        said = str(tmp_path / "parts.txt")
        lines = words if where == "file" else ["part", *words]
        Path(said).write_text("\n".join(lines) + "\n")
    table.to_csv(tmp_path / "a.csv", index=False)
    data = split(read(tmp_path / "a.csv", "y", split=said), None)
    for i, rows in enumerate(part_of(data, "row")):
        np.testing.assert_allclose(np.sort(rows), np.sort(table["row"][part == i]), atol=1e-4)
    assert any(note.startswith("split as the data say") for note in data.notes)


def test_a_part_that_is_not_named_comes_from_the_training_part(tmp_path: Path) -> None:
    table = numbered()
    table["part"] = ["train"] * 80 + ["test"] * 20
    table.to_csv(tmp_path / "a.csv", index=False)
    data = split(read(tmp_path / "a.csv", "y", split="part"), None)
    assert [len(part.x) for part in (data.train, data.validation, data.test)] == [60, 20, 20]
    np.testing.assert_allclose(
        np.sort(part_of(data, "row")[2]), np.sort(table["row"][80:]), atol=1e-4
    )
    assert any("the validation part is a random quarter" in note for note in data.notes)


@pytest.mark.parametrize("target", ["y", "label"])
def test_groups_are_never_split(tmp_path: Path, target: str) -> None:
    table = numbered(200)
    table["who"] = RNG.integers(0, 17, 200)
    table["label"] = RNG.choice(["a", "b"], 200)
    table.to_csv(tmp_path / "a.csv", index=False)
    data = split(
        read(tmp_path / "a.csv", target, group="who", ignore="y,label".replace(target, "z")), None
    )
    assert "who" not in data.columns
    who = dict(zip(table["row"], table["who"], strict=True))
    groups = [{who[round(row)] for row in rows} for rows in part_of(data, "row")]
    assert all(groups)
    assert sum(map(len, groups)) == len(set.union(*groups)) == 17
    assert len(data.train.x) > 80


@pytest.mark.parametrize("kind", ["number", "date"])
def test_split_by_time(tmp_path: Path, kind: str) -> None:
    table = numbered()
    table["when"] = table["row"] // 3
    if kind == "date":
        table["when"] = pd.Timestamp("2024-01-31") + pd.to_timedelta(table["when"], "D")
        table["when"] = table["when"].dt.strftime("%d.%m.%Y")
    table.to_csv(tmp_path / "a.csv", index=False)
    data = split(read(tmp_path / "a.csv", "y", time="when"), None)
    rows = [np.round(rows) for rows in part_of(data, "row")]
    assert rows[0].max() < rows[1].min() < rows[1].max() < rows[2].min()
    assert [len(part) for part in rows] == [60, 21, 19]
    times = [set(part // 3) for part in rows]
    assert sum(map(len, times)) == len(set.union(*times))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"split": "part", "group": "z"}, "split= and group= exclude each other"),
        ({"split": "parts.txt"}, "split= names no column and no file"),
        ({"split": "prt"}, "did you mean 'part'"),
        ({"split": "z"}, "it must be one of train, validation, test"),
        ({"split": "short.txt"}, "has 3 rows, but"),
        ({"split": "part"}, "every sample is in the training part"),
        ({"group": "who"}, "has 2 groups; at least 5"),
        ({"group": "hole"}, "row 1 of the group= column 'hole' is empty"),
        ({"time": "who"}, "has 2 different times"),
        ({"time": "word"}, "holds neither dates nor numbers"),
        ({"time": "tmie"}, "unknown time= column"),
        ({"ignore": "zz"}, "unknown ignore= column 'zz'"),
        ({"categories": "zz"}, "unknown categories= column 'zz'"),
        ({"ignore": "y"}, "target= 'y' has another use too"),
        ({"ignore": "row,z,part,who,hole,word"}, "no column besides the target"),
    ],
)
def test_faults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: dict[str, str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    table = numbered(60)
    words = [f"word {chr(97 + i % 26)}{i}" for i in range(60)]
    table = table.assign(part="train", who=[1, 2] * 30, hole=[None] + [1.0] * 59, word=words)
    table.to_csv("a.csv", index=False)
    Path("short.txt").write_text("train\ntest\nval\n")
    with pytest.raises(InputError, match=message):
        split(read(Path("a.csv"), "y", **said), None)


def test_a_class_that_the_training_part_lacks(tmp_path: Path) -> None:
    table = numbered(60).assign(part=["train"] * 30 + ["val"] * 15 + ["test"] * 15)
    table["y"] = ["a", "b"] * 15 + ["a"] * 15 + ["a", "b", "new"] * 5
    table.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(InputError, match="class new is in the test part, but not in the training"):
        split(read(tmp_path / "a.csv", "y", split="part"), None)


def array(y: object, name: str = "x") -> Dataset:
    y = np.asarray(y)
    return Dataset(name, RNG.normal(size=(len(y), 3)), y, ("a", "b", "c"))


def test_targets_with_two_dims() -> None:
    labels = np.arange(60) % 3
    for y in (labels[:, None], np.eye(3)[labels], np.eye(3, dtype=bool)[labels]):
        data = split(array(y), None)
        assert data.task == "classify"
        assert data.classes == (0, 1, 2)
    values = RNG.normal(size=(60, 2))
    data = split(array(values), None)
    assert data.outputs == 2
    np.testing.assert_allclose(data.train.y.numpy().mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(data.train.y.numpy().std(0), 1, atol=1e-6)
    with pytest.raises(InputError, match="task=classify takes one target, not 2"):
        split(array(values), "classify")
    with pytest.raises(InputError, match="several targets must be numbers"):
        split(array(np.array([["a", "b"]] * 60)), None)


@pytest.mark.parametrize(
    ("y", "note"),
    [
        (
            np.arange(1000) % 100,
            "100 different whole numbers are taken as amounts; use task=classify",
        ),
        (np.arange(60) % 4, "4 whole numbers are taken as classes; use task=regress"),
        (np.arange(60) % 2, None),
        (np.arange(60) % 4 + 0.5, None),
        (np.array(["a", "b", "c"] * 20), None),
    ],
)
def test_a_guess_of_the_task_is_said(y: np.ndarray, note: str | None) -> None:
    notes = split(array(y), None).notes
    assert any(line.startswith(note) for line in notes) if note else not notes


def test_no_guess_is_said_when_the_user_chose() -> None:
    assert split(array(np.arange(60) % 4), "classify").notes == ()
    assert split(array(np.arange(1000) % 100), "regress").notes == ()


@pytest.mark.parametrize(
    ("name", "task"),
    [("digits", "classify"), ("breast_cancer", "classify"), ("diabetes", "regress")],
)
def test_the_task_of_an_embedded_data_set_is_no_guess(name: str, task: str) -> None:
    data = split(load(name), None)
    assert data.task == task
    assert data.notes == ()
    assert split(load(name), "reconstruct").task == "reconstruct"


def test_an_index_that_gives_the_target_away(tmp_path: Path) -> None:
    iris = load_iris(as_frame=True).frame
    iris.insert(0, "Id", np.arange(1, 151))
    iris.to_csv(tmp_path / "a.csv", index=False)
    notes = split(read(tmp_path / "a.csv", "target"), None).notes
    assert any("'Id' is unique and sorted, like an index: consider ignore=Id" in n for n in notes)
    assert not any("petal" in note for note in notes)
    assert split(read(tmp_path / "a.csv", "target", ignore="Id"), None).notes == (
        "3 whole numbers are taken as classes; use task=regress if they are amounts",
    )


@pytest.mark.parametrize("copy", ["number", "category", "noisy"])
def test_a_copy_of_the_target_is_said(tmp_path: Path, copy: str) -> None:
    value = RNG.uniform(0, 9, 400)
    table = pd.DataFrame({"z": RNG.normal(size=400), "leak": value * 3 + 1, "y": value})
    if copy == "category":
        table["y"] = np.where(value > 4, "high", "low")
        table["leak"] = np.where(value > 4, "ja", "nein")
    elif copy == "noisy":
        table["leak"] += RNG.normal(size=400) * 0.1
    table.to_csv(tmp_path / "a.csv", index=False)
    notes = split(read(tmp_path / "a.csv", "y"), None).notes
    assert sum("alone predicts the target" in note for note in notes) == 1
    assert any("ignore=leak" in note for note in notes)


def test_rare_classes_are_said() -> None:
    notes = split(array(["no"] * 290 + ["yes"] * 10), None).notes
    assert notes == (
        "96.7% of the samples are of class no: always choosing it has an accuracy of 0.967",
    )


@pytest.mark.parametrize(
    "names", [("x", "y"), ("X", "target"), ("data", "labels"), ("features", "Y")]
)
def test_names_in_an_npz(tmp_path: Path, names: tuple[str, str]) -> None:
    x, y = RNG.normal(size=(30, 4)), np.arange(30) % 2
    np.savez(tmp_path / "a.npz", **dict(zip(names, (x, y), strict=True)))
    dataset = load(str(tmp_path / "a.npz"))
    np.testing.assert_array_equal(dataset.x, x)
    np.testing.assert_array_equal(dataset.y, y)


@pytest.mark.parametrize(
    "names",
    [
        ("x_train", "y_train", "x_val", "y_val", "x_test", "y_test"),
        ("train_images", "train_labels", "val_images", "val_labels", "test_images", "test_labels"),
        ("X_train", "Y_train", "X_valid", "Y_valid", "X_test", "Y_test"),
    ],
)
def test_an_npz_in_parts(tmp_path: Path, names: tuple[str, ...]) -> None:
    sizes = (30, 30, 20, 20, 10, 10)
    xs = {n: RNG.normal(size=(s, 8, 9)) for n, s in zip(names[::2], sizes[::2], strict=True)}
    ys = {n: np.arange(s)[:, None] % 2 for n, s in zip(names[1::2], sizes[1::2], strict=True)}
    np.savez(tmp_path / "a.npz", **xs, **ys, other=np.ones(3))
    dataset = load(str(tmp_path / "a.npz"))
    assert dataset.image_shape == (8, 9, 1)
    assert "arrays that are not used: other" in dataset.notes
    data = split(dataset, None)
    assert data.task == "classify"
    for part, x in zip((data.train, data.validation, data.test), xs.values(), strict=True):
        raw = part.x.double() * data.scale + data.mean
        np.testing.assert_allclose(raw, x.reshape(len(x), -1), atol=1e-5)


def test_images_with_channels_first_are_turned(tmp_path: Path) -> None:
    x = RNG.normal(size=(30, 3, 8, 9))
    np.savez(tmp_path / "a.npz", x=x)
    dataset = load(str(tmp_path / "a.npz"))
    assert dataset.image_shape == (8, 9, 3)
    np.testing.assert_array_equal(dataset.x.reshape(30, 8, 9, 3), x.transpose(0, 2, 3, 1))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": (9, 2), "x_train": (9, 2)}, "holds both 'x' and 'x_train'"),
        ({"x": (9, 2), "data": (9, 2)}, "holds both 'x' and 'data'"),
        ({"x_test": (9, 2)}, "no inputs to train on"),
        ({"x_train": (9, 2), "x_test": (9, 3)}, "have different shapes"),
        ({"x_train": (9, 2), "y_train": (9,), "x_test": (9, 2)}, "or one has none"),
        ({"x": (0, 2)}, "x is empty"),
        ({"x": (9, 2), "y": (9, 0)}, "y must have shape"),
    ],
)
def test_npz_faults(tmp_path: Path, arrays: dict[str, tuple[int, ...]], message: str) -> None:
    np.savez(tmp_path / "a.npz", **{name: np.ones(shape) for name, shape in arrays.items()})
    with pytest.raises(InputError, match=message):
        load(str(tmp_path / "a.npz"))


def compare(path: Path, **flags: object) -> Path:
    fields = {"activations": "relu", "hidden": "16", "epochs": 2, "seeds": 1, **flags}
    config = CompareConfig(str(path), **fields, out=str(path.parent / "run"))  # type: ignore[arg-type]
    return Comparison(config).execute(silent).path / "model.safetensors"


def test_a_saved_model_takes_the_raw_table(tmp_path: Path) -> None:
    table = passengers()
    table.assign(ticket=[f"T {i * i}" for i in range(120)]).to_csv(
        tmp_path / "a.csv", sep=";", decimal=",", index=False
    )
    model = load_model(compare(tmp_path / "a.csv", target="survived"))
    raw = pd.read_csv(tmp_path / "a.csv", sep=";", decimal=",").sample(
        frac=1, random_state=0, axis=1
    )
    as_text = pd.read_csv(tmp_path / "a.csv", sep=";", dtype=str)
    typed = raw.assign(boarded=pd.to_datetime(raw["boarded"]))
    data = split(read(tmp_path / "a.csv", "survived"), None)
    assert data.encoder is not None
    encoded = torch.from_numpy(data.encoder.encode(read(tmp_path / "a.csv", "survived").x))
    with torch.no_grad():
        wanted = model(encoded)
        for frame in (raw, as_text, typed):
            assert torch.equal(model(frame), wanted)
        new = raw.iloc[:3].assign(port="Belfast", age=np.nan)
        assert model(new).isfinite().all()
    described = {column["name"]: column["treatment"] for column in model.description["table"]}
    assert described["alone"] == "true or false, as 1 or 0"
    with pytest.raises(InputError, match="has no column 'port'; did you mean 'Port'"):
        model(raw.rename(columns={"port": "Port"}))
    with pytest.raises(InputError, match="row 2, column 'fare' is text: 'much'"):
        model(as_text.assign(fare=["1", "much", *["3"] * 118]))
    with pytest.raises(InputError, match="takes a tensor or a pandas DataFrame, not list"):
        model([1, 2])


def test_a_model_of_plain_numbers_takes_a_table_too(tmp_path: Path) -> None:
    iris = load_iris(as_frame=True)
    x = iris.data.to_numpy(copy=True)
    names = np.array(iris.feature_names)
    np.savez(tmp_path / "a.npz", x=x, y=iris.target, feature_names=names)
    model = load_model(compare(tmp_path / "a.npz"))
    with torch.no_grad():
        assert torch.equal(model(iris.data), model(torch.from_numpy(x)))
    with pytest.raises(InputError, match="row 1, column 'sepal length \\(cm\\)' is missing"):
        model(iris.data * np.nan)


def test_several_targets_are_learned_and_saved(tmp_path: Path) -> None:
    x = RNG.normal(size=(200, 3))
    y = np.column_stack([5 + x[:, 0], 100 * x[:, 1]])
    np.savez(tmp_path / "a.npz", x=x, y=y)
    model = load_model(compare(tmp_path / "a.npz", epochs=60, lr=1e-2))
    with torch.no_grad():
        output = model(torch.from_numpy(x)).double()
    scale, mean = (torch.tensor(model.description[f"target_{k}"]) for k in ("scale", "mean"))
    assert (
        (output * scale + mean - torch.from_numpy(y))
        .abs()
        .mean(0)
        .le(torch.tensor([0.5, 50]))
        .all()
    )


def test_text_file_of_categories_alone(tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", "a,b,y\n" + "u,v,yes\nw,v,no\n" * 30)
    data = split(read(path, "y"), None)
    assert data.columns == ("a=u", "a=w", "b=v")
