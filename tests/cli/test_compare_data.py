"""Data that ``sparsact compare`` refuses, each in one line, and what it says about data."""

import bz2
import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from made_tables import passengers
from sparsact.cli import main

ROWS = [f"{i / 2},{i % 7},{'ab'[i % 2]}" for i in range(30)]


def table(*rows: str) -> str:
    return "\n".join(["x,y,kind", *rows])


def make_files() -> None:
    """One file or folder for each fault."""
    texts = {
        "good.csv": table(*ROWS),
        "stray.csv": table(*ROWS, "oops,1,a"),
        "inf.csv": table(*ROWS, "inf,1,a"),
        "date.csv": table(*[f"2024-01-{i + 1:02},{i},a" for i in range(30)], "soon,1,b"),
        "short.csv": table(*ROWS, "1,2"),
        "long.csv": table(*ROWS, "1,2,a,4"),
        "lonely.csv": table(*ROWS, "1,2,lonely"),
        "one.csv": table(*[row[:-1] + "a" for row in ROWS]),
        "small.csv": table(*ROWS[:5]),
        "untold.csv": table(*[row[:-1] for row in ROWS[:20]], *ROWS[20:]),
        "header.csv": "x,y,kind\n",
        "comments.csv": "# nothing\n# else\n",
        "empty.csv": "",
        "dates.csv": table(*[f"{i},2024-01-{i + 1:02},a" for i in range(30)]),
        "bare.csv": "kind\n" + "a\nb\n" * 15,
        "fake.parquet": "text",
        "fake.xlsx": "text",
        "fake.csv.gz": "text",
        "fake.npz": "text",
        "notes.md": "text",
        "parts.txt": "train\ntest\n",
    }
    for name, content in texts.items():
        Path(name).write_text(content)
    Path("binary.csv").write_bytes(bytes(range(256)) * 4)
    Path("cut.csv.gz").write_bytes(gzip.compress(table(*ROWS).encode())[:-20])
    Path("cut.csv.bz2").write_bytes(bz2.compress(table(*ROWS).encode())[:-9])
    Path("half.csv").write_bytes(b"\xff\xfe" + b"a\0,\0b\0\n\0x")
    pd.DataFrame({"x": [[1, 2]] * 30, "y": range(30)}).to_parquet("lists.parquet")
    pd.DataFrame().to_excel("empty.xlsx")
    np.savez("nothing.npz", z=np.ones(3))
    np.savez("test_only.npz", x_test=np.ones((30, 2)))
    np.savez("objects.npz", x=np.array([[None, 1]], object))
    Path("no_images").mkdir()
    for label in "ab":
        for i in range(15):
            path = Path(f"damaged/{label}/{i}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("text")
    for place in ("hollow/a", "hollow/b", "hollow_part/train/a", "hollow_part/train/b"):
        Path(place).mkdir(parents=True)
        for i in range(15):
            Image.new("L", (4, 4), i).save(f"{place}/{i}.png")
    Path("hollow/c").mkdir()
    Path("hollow_part/val/a").mkdir(parents=True)
    Path("unlike/train/a").mkdir(parents=True)
    Path("unlike/test/b").mkdir(parents=True)
    for i in range(15):
        for place in ("train/a", "test/b"):
            Image.new("L", (4, 4), i).save(f"unlike/{place}/{i}.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        make_files()
    return path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("stray.csv --target kind", "row 31, column 'x' is text: 'oops', but most cells are"),
        ("stray.csv --target kind", "say that it is missing with --missing oops"),
        ("inf.csv --target kind", "inf.csv: row 31, column 'x' is inf"),
        ("date.csv --target kind", "row 31, column 'x' is text: 'soon', but most cells are dates"),
        ("short.csv --target kind", "row 31 has 2 cells, the header has 3"),
        ("long.csv --target kind", "row 31 has 4 cells, the header has 3"),
        ("lonely.csv --target kind", "class lonely has 1 sample(s)"),
        ("one.csv --target kind", "one has one class only: a"),
        ("small.csv --target kind", "small has 5 samples; at least 20 are needed"),
        ("untold.csv --target kind", "row 1 has an empty target (empty in 20 of 30 rows)"),
        ("header.csv", "must hold a header and at least one row"),
        ("comments.csv", "must hold a header and at least one row"),
        ("empty.csv", "must hold a header and at least one row"),
        ("dates.csv --target y", "the target 'y' holds dates"),
        ("bare.csv --target kind", "no column besides the target 'kind'"),
        ("fake.parquet", "fake.parquet is not a readable Parquet file"),
        ("fake.xlsx", "fake.xlsx is not a readable Excel file"),
        ("fake.csv.gz", "fake.csv.gz cannot be read"),
        ("cut.csv.gz", "cut.csv.gz cannot be read"),
        ("cut.csv.bz2", "cut.csv.bz2 cannot be read"),
        ("half.csv", "half.csv is not readable as UTF-16 text"),
        ("binary.csv", "binary.csv is not readable as text"),
        ("fake.npz", "not a .npz of plain numeric arrays"),
        ("objects.npz", "not a .npz of plain numeric arrays"),
        ("nothing.npz", "must hold an array 'x'"),
        ("test_only.npz", "no inputs to train on"),
        ("lists.parquet --target y", "column 'x' holds cells of type ndarray"),
        ("empty.xlsx", "must hold a header and at least one row"),
        ("notes.md", "notes.md is neither a table"),
        ("no_images", "no_images holds no images"),
        ("hollow", "the folder hollow/c is empty: put images into it, or remove it"),
        ("hollow_part", "the folder hollow_part/val/a is empty"),
        ("damaged", "damaged/a/0.png is not a readable image"),
        ("unlike", "the training part has one class only"),
        ("good.csv --target knd", "unknown --target column 'knd'; did you mean 'kind'"),
        ("good.csv --target kind,zz", "unknown --target column 'zz'"),
        ("good.csv --target kind,y", "several targets must be numbers, but 'kind' holds text"),
        ("good.csv --target kind --ignore zz", "unknown --ignore column 'zz'"),
        ("good.csv --target kind --ignore x,y", "no column besides the target"),
        ("good.csv --target kind --ignore kind", "--target 'kind' has another use too"),
        ("good.csv --target kind --categories zz", "unknown --categories column 'zz'"),
        ("good.csv --target kind --group x --time y", "--group and --time exclude each other"),
        ("good.csv --target kind --split y", "row 1 of --split column 'y' is '0'"),
        ("good.csv --target kind --split parts.txt", "parts.txt has 2 rows, but good.csv has 30"),
        ("good.csv --target kind --split binary.csv", "--split file binary.csv cannot be read"),
        ("good.csv --target kind --split none.txt", "--split names no column and no file"),
        ("good.csv --target kind --time kind", "--time column 'kind' holds neither dates nor"),
        ("good.csv --target kind --model convnet", "--model convnet needs images"),
        ("good.csv --task classify", "nothing to predict for --task classify"),
        ("good.csv --target kind --task regress", "--task regress needs numbers"),
        ("digits --ignore x", "--ignore is about a table; 'digits' is not one"),
        ("digits --target x", "--target names a column of a table"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: str,
    message: str,
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["sparsact", "compare", *words.split(), "--out", "run"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error:")
    assert message in line
    assert not (folder / "run").exists()


def test_what_is_done_to_each_column_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    passengers().assign(Id=range(120)).to_csv("a.csv", index=False)
    words = "a.csv --target survived --activations relu --seeds 1 --epochs 1 --hidden 8 --out run"
    monkeypatch.setattr("sys.argv", ["sparsact", "compare", *words.split()])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    for line in [
        "siblings, fare, Id: number",
        "alone: true or false, as 1 or 0",
        "boarded: date, as days since 1970, month, weekday (ISO8601)",
        "note: column 'Id' is unique and sorted, like an index: consider --ignore Id",
    ]:
        assert lines.count(line) == 1
    assert any(line.startswith("age: number; ") and "missing: the median" in line for line in lines)
    assert any(line.startswith("port: 3 categories, as one feature each") for line in lines)
