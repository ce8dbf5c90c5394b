"""Tables in the form that people have them, against pandas and scikit-learn."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder

from made_tables import features, kinds, passengers, read, text
from sparsact._common.errors import InputError
from sparsact.compare.data import split
from sparsact.compare.data.cells import date_formats, to_numbers

KINDS = ["number", "number", "category", "boolean", "date", "number"]


def expected(table: pd.DataFrame, train: np.ndarray) -> np.ndarray:
    """The features by pandas and scikit-learn, with statistics of the rows `train`."""
    age = SimpleImputer(strategy="median").fit(table[["age"]].iloc[train])
    port = table["port"].fillna("(missing)").to_numpy()[:, None]
    order = pd.Series(port[train, 0]).value_counts().sort_index()
    order = order.sort_values(ascending=False, kind="stable").index.tolist()
    one_hot = OneHotEncoder(categories=[order], handle_unknown="ignore", sparse_output=False)
    boarded = table["boarded"]
    days = (boarded - pd.Timestamp(0)) / pd.Timedelta(days=1)
    return np.column_stack(
        [
            age.transform(table[["age"]]),
            table["age"].isna(),
            table["siblings"],
            one_hot.fit(port[train]).transform(port),
            table["alone"],
            np.column_stack([days, boarded.dt.month, boarded.dt.day_of_week]),
            table["fare"],
        ]
    ).astype(float)


@pytest.mark.parametrize(
    ("separator", "name", "encoding"),
    [
        (",", "a.csv", "utf-8"),
        (";", "a.txt", "utf-8-sig"),
        ("\t", "a.csv.gz", "utf-16"),
        ("|", "a.tsv.xz", "cp1252"),
    ],
)
@pytest.mark.parametrize("decimal", [".", ","])
def test_any_separator_decimal_encoding_and_compression(
    tmp_path: Path, separator: str, decimal: str, name: str, encoding: str
) -> None:
    table = passengers()
    path = tmp_path / name
    table.to_csv(path, sep=separator, decimal=decimal, encoding=encoding, index=False)
    dataset = read(path, "survived")
    assert dataset.name == "a"
    assert kinds(dataset) == KINDS
    np.testing.assert_allclose(features(dataset), expected(table, np.arange(len(table))))
    assert dataset.y is not None
    assert dataset.y.tolist() == table["survived"].tolist()


@pytest.mark.parametrize("name", ["a.parquet", "a.xlsx"])
def test_formats_with_types(tmp_path: Path, name: str) -> None:
    table = passengers()
    if name == "a.xlsx":
        table.to_excel(tmp_path / name, index=False)
    else:
        table.to_parquet(tmp_path / name)
    dataset = read(tmp_path / name, "survived")
    assert kinds(dataset) == KINDS
    np.testing.assert_allclose(features(dataset), expected(table, np.arange(len(table))))


@pytest.mark.parametrize("kind", ["Int64", "Float64", "boolean", "category", "string", "int8"])
def test_types_of_pandas(tmp_path: Path, kind: str) -> None:
    values = pd.Series(["a", "b"] * 20 if kind in ("category", "string") else [0, 1] * 20)
    if kind != "int8":
        values[3] = None
        values = values.astype("object")
    table = pd.DataFrame({"x": values.astype(kind), "y": np.arange(40) * 0.5})
    table.to_parquet(tmp_path / "a.parquet")
    own = features(read(tmp_path / "a.parquet", "y"))
    width = {"category": 3, "string": 3, "int8": 1}.get(kind, 2)
    assert own.shape == (40, width)
    assert np.isfinite(own).all()
    if kind in ("Int64", "Float64", "boolean"):
        assert own[:5].tolist() == [[0, 0], [1, 0], [0, 0], [0, 1], [0, 0]]


def test_encoders_are_fitted_on_the_training_part(tmp_path: Path) -> None:
    table = passengers()
    path = tmp_path / "a.csv"
    part = np.array(["train"] * 60 + ["valid"] * 30 + ["test"] * 30)
    table.loc[90:, "age"] = 1000.0
    table.loc[95, "age"] = np.nan
    table.loc[100:, "port"] = "Belfast"
    table.assign(part=part).to_csv(path, index=False)
    data = split(read(path, "survived", split="part"), None)
    raw = expected(table, np.arange(60))
    assert "port=Belfast" not in data.columns
    mean, scale = raw[:60].mean(0), raw[:60].std(0)
    wanted = (raw - mean) / np.where(scale > 0, scale, 1)
    ours = np.concatenate([part.x.numpy() for part in (data.train, data.validation, data.test)])
    np.testing.assert_allclose(ours, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("cells", "decimal", "numbers"),
    [
        (["1,000", "2", "1,234,567.5", "0.5"], ".", [1000, 2, 1234567.5, 0.5]),
        (["1.000", "2", "1.234.567,5", "0,5"], ",", [1000, 2, 1234567.5, 0.5]),
        (["12%", "0.5 %", "-3%"], ".", [0.12, 0.005, -0.03]),
        (["$5", "€ 1,000", "7 £", "-$2"], ".", [5, 1000, 7, -2]),
        (["1 000", "2\u00a0000,5", "3’000"], ",", [1000, 2000.5, 3000]),
        (["1e3", "-2.5E-1", ".5", "+4", "5."], ".", [1000, -0.25, 0.5, 4, 5]),
        (["(3)", "(1,000.5)", "($2)"], ".", [-3, -1000.5, -2]),
        (["−3", "inf", "-inf"], ".", [-3, np.inf, -np.inf]),
        (["1,00", "a", "1.2.3", "0,123", "12,34", "--1"], ".", [np.nan] * 6),
    ],
)
def test_numbers_in_text(cells: list[str], decimal: str, numbers: list[float]) -> None:
    ours = to_numbers(pd.Series(cells, dtype="string"), decimal)
    np.testing.assert_allclose(ours.to_numpy(), numbers)


@pytest.mark.parametrize(
    ("column", "remark"),
    [
        (["1,000", "2,500"], "',' separates thousands"),
        (["1,5", "2,500"], "decimal comma"),
        (["1.000,5", "2,5"], "'.' separates thousands, decimal comma"),
        (["12%", "5%"], "percent, as fractions"),
        (["00012", "00500"], "leading zeros are dropped"),
        (["12", "0.5"], ""),
    ],
)
def test_how_numbers_are_read_is_said(tmp_path: Path, column: list[str], remark: str) -> None:
    rows = [f'"{column[i % 2]}",{i % 3}' for i in range(30)]
    dataset = read(text(tmp_path / "a.csv", "x,y\n" + "\n".join(rows)), "y")
    assert dataset.encoder is not None
    assert dataset.encoder.columns[0].remark == remark


@pytest.mark.parametrize("decimal", ["point", "comma"])
def test_the_user_can_say_the_decimal_mark(tmp_path: Path, decimal: str) -> None:
    path = text(tmp_path / "a.csv", "x;y\n" + "1.234;5\n2.345;6\n" * 20)
    own = features(read(path, "y", decimal=decimal))
    assert own[:2, 0].tolist() == ([1.234, 2.345] if decimal == "point" else [1234, 2345])


@pytest.mark.parametrize(
    "date_format",
    ["%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y %H:%M", "%d %b %Y", "%Y-%m-%dT%H:%M:%S"],
)
def test_dates(tmp_path: Path, date_format: str) -> None:
    times = pd.Series(pd.date_range("2024-01-01 05:00", periods=60, freq="31h")).sample(
        frac=1, random_state=0, ignore_index=True
    )
    column = times.dt.strftime(date_format)
    table = pd.DataFrame({"when": column, "y": np.arange(60) * 1.5})
    table.to_csv(tmp_path / "a.csv", index=False)
    dataset = read(tmp_path / "a.csv", "y")
    assert kinds(dataset) == ["date"]
    parsed = pd.to_datetime(column, format=date_format)
    wanted = [(parsed - pd.Timestamp(0)) / pd.Timedelta(days=1)]
    wanted += [parsed.dt.month, parsed.dt.day_of_week]
    if "%H" in date_format:
        wanted.append(parsed.dt.hour)
    np.testing.assert_allclose(features(dataset), np.column_stack(wanted))


def test_a_guess_of_day_and_month_is_said(tmp_path: Path) -> None:
    path = text(
        tmp_path / "a.csv", "d,y\n" + "".join(f"0{1 + i % 9}/03/2024,{i}\n" for i in range(40))
    )
    dataset = read(path, "y")
    assert dataset.encoder is not None
    assert dataset.encoder.columns[0].remark == "the order of day and month is a guess"
    assert date_formats(pd.Series(["31/01/2024", "01/02/2024"], dtype="string")) == ["%d/%m/%Y"]
    assert date_formats(pd.Series(["1.5", "2.5"], dtype="string")) == []


def test_text_is_hashed_as_scikit_learn_does(tmp_path: Path) -> None:
    names = [f"Mr. {chr(65 + i % 26)}{i} Smith" for i in range(60)]
    pd.DataFrame({"name": names, "y": np.arange(60) % 2}).to_csv(tmp_path / "a.csv", index=False)
    dataset = read(tmp_path / "a.csv", "y")
    assert kinds(dataset) == ["text"]
    hashing = HashingVectorizer(analyzer="char_wb", ngram_range=(2, 4), n_features=32)
    np.testing.assert_allclose(features(dataset), hashing.transform(names).toarray())


def test_many_categories_keep_the_most_frequent(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = [f"c{i}" for i in np.minimum(rng.geometric(0.05, 600), 80)]
    pd.DataFrame({"c": values, "y": np.arange(600) % 2}).to_csv(tmp_path / "a.csv", index=False)
    dataset = read(tmp_path / "a.csv", "y")
    own = features(dataset)
    assert own.shape == (600, 30)
    kept = set(pd.Series(values).value_counts().index[:25])
    np.testing.assert_array_equal(own.sum(1) >= 1, own.max(1) == 1)
    assert all(own[row].sum() == 1 for row, value in enumerate(values) if value in kept)
    data = split(dataset, None)
    assert data.encoder is not None
    assert "the 30 most frequent" in data.encoder.treatments[0]


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("a,b\n1,2\n3,4\n", ["a", "b"]),
        ("5.1,setosa\n4.9,setosa\n6.1,other\n", ["1", "2"]),
        ("p,x\ne,y\np,x\ne,x\n", ["1", "2"]),
        ("# x, y\n1,2\n3,4\n", ["x", "y"]),
        ("# made today\nx,y\n1,2\n# in between\n3,4\n", ["x", "y"]),
        ("country,2019,2020,2021\nA,1,2,3\nB,2,3,4\n", ["country", "2019", "2020", "2021"]),
        ("country,2020\nA,1\nB,2\n", ["country", "2020"]),
        ("0,1,2\n5,6,7\n6,7,8\n", ["0", "1", "2"]),
        ("sep=;\na;b\n1;2\n", ["a", "b"]),
        ("a b\n1 2\n3  4\n", ["a", "b"]),
        ('"a";"b"\n"1";"2,5"\n', ["a", "b"]),
        ("a,b\n7,2,3\n8,3,4\n", ["column 1", "a", "b"]),
        ("a,,b\n1,2,3\n", ["a", "column 2", "b"]),
        ("a,a,b\n1,2,3\n", ["a", "a.1", "b"]),
        ("a,a,a.1,a\n1,2,3,4\n", ["a", "a.2", "a.1", "a.3"]),
        ("a\tb\r\n1\t\r\n2\t3\r\n", ["a", "b"]),
        ('a,b\n"x\ny",2\n"z,\nw",4\n', ["a", "b"]),
    ],
)
def test_header_comments_and_separators(tmp_path: Path, content: str, names: list[str]) -> None:
    dataset = read(text(tmp_path / "a.csv", content))
    assert [str(name) for name in dataset.x.columns] == names


def test_a_name_that_is_taken_is_said(tmp_path: Path) -> None:
    dataset = read(text(tmp_path / "a.csv", "a,a,b\n1,2,3\n"))
    assert "columns whose name is taken get another one: 'a.1'" in dataset.notes
    assert not read(text(tmp_path / "b.csv", "a,,b\n1,2,3\n")).notes


def test_header_can_be_said(tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", "0.5,a\n1.5,b\n")
    assert list(read(path, header="yes").x.columns) == ["0.5", "a"]
    path = text(tmp_path / "b.csv", "2020,2021\n1,2\n")
    assert len(read(path, header="no").x) == 2
    assert len(read(path, header="auto").x) == 1


def test_words_for_missing(tmp_path: Path) -> None:
    words = ["", "NA", "n/a", "NaN", "null", "?", "-", "#N/A", "unknown", "-999"]
    rows = [f"{word},{i}" for i, word in enumerate(words)] + [f"{i}.5,{i}" for i in range(30)]
    path = text(tmp_path / "a.csv", "x,y\n" + "\n".join(rows))
    own = features(read(path, "y", missing="unknown,-999"))
    assert own[:10, 1].tolist() == [1] * 10
    assert own[10:, 1].sum() == 0
    assert set(own[:10, 0]) == {np.median(np.arange(30) + 0.5)}


def test_rows_without_a_target_are_left_out(tmp_path: Path) -> None:
    path = text(
        tmp_path / "a.csv", "x,y\n" + "".join(f"{i},{i if i % 4 else ''}\n" for i in range(40))
    )
    dataset = read(path, "y")
    assert "rows without a target are left out: 10, the first is row 1" in dataset.notes
    assert dataset.y is not None
    np.testing.assert_array_equal(features(dataset)[:, 0], dataset.y)


def test_plus_and_minus_are_classes(tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", "x,y\n" + "1,+\n2,-\n" * 20)
    assert set(read(path, "y").y.tolist()) == {"+", "-"}


def test_an_index_without_a_name_is_left_out(tmp_path: Path) -> None:
    passengers().to_csv(tmp_path / "a.csv")
    dataset = read(tmp_path / "a.csv", "survived")
    assert kinds(dataset) == KINDS
    assert any("numbers the rows" in note for note in dataset.notes)


def test_ignore_and_categories(tmp_path: Path) -> None:
    passengers().to_csv(tmp_path / "a.csv", index=False)
    dataset = read(tmp_path / "a.csv", "survived", ignore="age, fare", categories="siblings")
    assert kinds(dataset) == ["category", "category", "boolean", "date"]
    assert features(dataset)[:, :5].sum(1).tolist() == [1] * 120


def test_several_targets(tmp_path: Path) -> None:
    table = passengers()
    table["fare"] *= 1e3
    table["age"] = table["age"].fillna(20)
    table.to_csv(tmp_path / "a.csv", index=False)
    data = split(read(tmp_path / "a.csv", "age,fare"), None)
    assert data.task == "regress"
    assert data.outputs == 2
    assert isinstance(data.target_mean, tuple)
    every = np.concatenate([part.y.numpy() for part in (data.train, data.validation, data.test)])
    back = every * data.target_scale + data.target_mean
    np.testing.assert_allclose(
        np.sort(back, 0), np.sort(table[["age", "fare"]].to_numpy(), 0), rtol=1e-4
    )


def test_one_hot_targets_of_a_table(tmp_path: Path) -> None:
    table = pd.DataFrame({"x": np.arange(60) * 0.5, "kind": np.arange(60) % 3})
    hot = pd.get_dummies(table["kind"], prefix="is", dtype=int)
    pd.concat([table[["x"]], hot], axis=1).to_csv(tmp_path / "a.csv", index=False)
    data = split(read(tmp_path / "a.csv", "is_0,is_1,is_2"), None)
    assert data.classes == ("is_0", "is_1", "is_2")
    assert any("one-hot" in note for note in data.notes)


@pytest.mark.parametrize(
    ("cell", "stray", "message"),
    [
        ("{}.5", "oops", "row 21, column 'x' is text: 'oops', but most cells are numbers"),
        ("2024-01-{:02}", "oops", "row 21, column 'x' is text: 'oops', but most cells are dates"),
        ("2024-01-{:02}", "2024-02-30", "is text: '2024-02-30', but most cells are dates"),
        ("{}", "inf", "row 21, column 'x' is inf"),
        ("{}.0", "1e999", "row 21, column 'x' is (inf|text: '1e999')"),  # inf from pandas 3 on
    ],
)
def test_a_stray_cell_is_named(tmp_path: Path, cell: str, stray: str, message: str) -> None:
    rows = [f"{cell.format(i + 1)},{i}" for i in range(20)]
    path = text(tmp_path / "a.csv", "\n".join(["x,y", *rows, f"{stray},5"]))
    with pytest.raises(InputError, match=message):
        read(path, "y")


def test_numbers_that_stand_for_missing(tmp_path: Path) -> None:
    table = pd.DataFrame({"x": [-999, *range(39)], "y": np.arange(40) * 0.5})
    table.to_parquet(tmp_path / "a.parquet")
    own = features(read(tmp_path / "a.parquet", "y", missing="-999"))
    assert own[0].tolist() == [19, 1]
