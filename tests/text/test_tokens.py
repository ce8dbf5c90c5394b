import json

import pytest
import torch

from sparsact.text import DatasetPart, load_language_model, read_tokens
from tiny_language import WORDS, save_tiny_model


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    return load_language_model(str(save_tiny_model(tmp_path_factory.mktemp("model"))))


@pytest.fixture
def tokenizer(language):
    return language[1]


@pytest.fixture
def dataset(tmp_path):
    """A local directory that ``datasets.load_dataset`` reads: 200 rows of three words."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    rows = [{"text": f"w{n % 30} w1 w2", "title": f"w{n % 7}", "n": n} for n in range(200)]
    for split in ("train", "validation"):
        few = rows if split == "train" else rows[:4]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in few))
    return f"hf:{folder}"


def words(tokens):
    return [WORDS[id] for id in tokens.ids[tokens.kept()].tolist()]


def test_a_model_and_its_tokenizer(language):
    model, tokenizer = language
    tokens = torch.tensor([tokenizer("w0 w5")["input_ids"]])
    assert not model.training
    assert model(input_ids=tokens).logits.shape == (1, 2, 40)


def test_files_follow_each_other(tokenizer, tmp_path):
    files = [tmp_path / "a.txt", tmp_path / "b.txt"]
    files[0].write_text("w1 w2 w3\n")
    files[1].write_text("w4 w5")
    tokens = read_tokens(tokenizer, files, 4)
    assert words(tokens) == ["w1", "w2", "w3", "w4", "w5"]
    assert tokens.ids[:, 0].tolist() == [0, 0]  # the BOS, which does not count
    assert words(read_tokens(tokenizer, files, 4, max_tokens=4)) == ["w1", "w2", "w3", "w4"]


def test_a_dataset_is_read_up_to_max_tokens(tokenizer, dataset, tmp_path):
    tokens = read_tokens(tokenizer, [dataset], 8, max_tokens=100)
    expected = [word for n in range(34) for word in (f"w{n % 30}", "w1", "w2")][:100]
    assert words(tokens) == expected
    part = DatasetPart(split="validation", column="title")
    assert words(read_tokens(tokenizer, [dataset], 8, part=part, max_tokens=100)) == [
        "w0", "w1", "w2", "w3",
    ]  # fmt: skip
    (tmp_path / "a.txt").write_text("w9")
    both = read_tokens(tokenizer, [tmp_path / "a.txt", dataset], 8, max_tokens=3)
    assert words(both) == ["w9", "w0", "w1"]


def test_a_dataset_is_streamed(tokenizer, dataset, monkeypatch):
    datasets = pytest.importorskip("datasets")
    read, real = [], datasets.load_dataset

    def counted(*args, **options):
        for row in real(*args, **options):
            read.append(row)
            yield row

    monkeypatch.setattr(datasets, "load_dataset", counted)
    read_tokens(tokenizer, [dataset], 8, max_tokens=100)
    assert len(read) == 64  # of 200


@pytest.mark.parametrize(
    ("part", "limit", "message"),
    [
        ({}, None, "max_tokens="),
        ({"column": "txt"}, 9, "column 'txt'.*'text', 'title', 'n'"),
        ({"column": "n"}, 9, "holds no text"),
        ({"split": "test"}, 9, "test"),
    ],
)
def test_mistakes_about_a_dataset(tokenizer, dataset, part, limit, message):
    with pytest.raises(ValueError, match=message):
        read_tokens(tokenizer, [dataset], part=DatasetPart(**part), max_tokens=limit)


def test_a_dataset_that_does_not_exist(tokenizer, tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        read_tokens(tokenizer, [f"hf:{tmp_path}/nowhere"], max_tokens=9)


def test_mistakes_about_files(tokenizer, tmp_path):
    empty, binary = tmp_path / "empty.txt", tmp_path / "picture.txt"
    empty.write_text(" \n")
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"no text in .*empty\.txt"):
        read_tokens(tokenizer, [empty])
    with pytest.raises(ValueError, match=r"picture\.txt is not a text file"):
        read_tokens(tokenizer, [binary])
    with pytest.raises(FileNotFoundError):
        read_tokens(tokenizer, [tmp_path / "no.txt"])
    with pytest.raises(ValueError, match="no file"):
        read_tokens(tokenizer, [])
