import itertools
import re

import pytest
import torch

from sparsact.text.python_reference import reference_text
from sparsact.text.windows import as_batches, choose, read_rows, reference_rows, split, spread
from tiny_language import llama, tokenizer


@pytest.fixture(scope="module")
def model():
    return llama()


def test_rows_begin_with_bos_and_hold_the_text(model, tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("the quick brown fox jumps over")
    rows = read_rows(model, tokenizer(), [str(file)], 3, 3)
    assert rows.tolist() == [[0, 2, 3], [0, 4, 5], [0, 6, 7]]


def test_an_incomplete_last_row_is_left_out(model, tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("the quick brown fox jumps")
    assert len(read_rows(model, tokenizer(), [str(file)], 3, 1)) == 2


def test_short_texts_raise_with_the_number_of_tokens_needed(model, tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("the quick brown fox jumps")
    with pytest.raises(ValueError, match="4 rows of 8 need 28 tokens of text, and there are 5"):
        read_rows(model, tokenizer(), [str(file)], 8, 4)
    file.write_text("")
    with pytest.raises(ValueError, match=r"no text in .*; 4 rows of 8 need 28 tokens"):
        read_rows(model, tokenizer(), [str(file)], 8, 4)


def test_rows_that_are_too_long_or_too_short_or_of_another_vocabulary(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("the quick brown fox jumps")
    with pytest.raises(ValueError, match="128 positions"):
        read_rows(llama(), tokenizer(), [str(file)], 129, 1)
    with pytest.raises(ValueError, match="at least 2"):
        read_rows(llama(), tokenizer(), [str(file)], 1, 1)
    with pytest.raises(ValueError, match="token 6, but the model has only 4"):
        read_rows(llama(vocab_size=4), tokenizer(), [str(file)], 8, 1)


@pytest.mark.parametrize(("total", "count"), [(10, 10), (10, 3), (100, 7), (5, 1)])
def test_spread_rows_are_distinct_and_even(total, count):
    places = spread(total, count)
    assert len(set(places)) == count
    assert 0 <= min(places) <= max(places) < total
    gaps = [b - a for a, b in itertools.pairwise(places)]
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_held_out_rows_are_not_among_the_others():
    rows = torch.arange(40).view(20, 2)
    others, held = split(rows, 2)
    assert held[:, 0].tolist() == [10, 30]
    assert sorted(torch.cat([others, held])[:, 0].tolist()) == rows[:, 0].tolist()
    assert len(choose(rows, 5)) == 5


def test_each_row_becomes_a_batch():
    batches = as_batches(torch.arange(6).view(2, 3))
    assert [batch["input_ids"].tolist() for batch in batches] == [[[0, 1, 2]], [[3, 4, 5]]]
    assert all(batch["attention_mask"].all() for batch in batches)


def test_the_reference_of_python_gives_enough_rows(model):
    assert len(reference_rows(model, tokenizer(), 64, 100)) > 100


def test_the_two_parts_of_the_reference_share_no_text():
    """By runs of eight words: a few formulas of the language remain."""
    seen, held_out = (re.findall(r"\w+", part) for part in reference_text())
    runs = [list(zip(*(words[i:] for i in range(8)), strict=False)) for words in (seen, held_out)]
    assert min(map(len, runs)) > 20_000
    known = set(runs[0])
    assert sum(run in known for run in runs[1]) < 0.01 * len(runs[1])
