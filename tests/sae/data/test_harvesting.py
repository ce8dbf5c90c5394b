import pytest
import torch

from sparsact.sae import Tokens, harvest, pack_tokens
from sparsact.sae.data.places import one_place


@pytest.fixture
def tokens():
    return pack_tokens(torch.randint(1, 50, (100,)).tolist(), 8, bos=0)


def test_rows_are_packed_and_the_last_is_padded():
    tokens = pack_tokens(range(1, 8), 4, bos=0)
    assert tokens.ids.tolist() == [[0, 1, 2, 3], [0, 4, 5, 6], [0, 7, 0, 0]]
    assert tokens.mask.sum(1).tolist() == [4, 4, 2]
    assert tokens.kept().sum(1).tolist() == [3, 3, 1]
    assert pack_tokens(range(7), 4, bos=0, drop_bos=False).kept().sum() == 10
    assert pack_tokens(range(8), 4).kept().all()
    with pytest.raises(ValueError, match="0 tokens"):
        pack_tokens([], 8)


def test_activations_of_the_text_without_bos_and_padding(layer_model, tokens, tmp_path):
    model = layer_model()
    rows = harvest(model, "first", tokens, tmp_path, batch_rows=2, shard_rows=4)
    expected = model.first(model.embed(tokens.ids))[tokens.kept()]
    assert rows.total == 100
    found = torch.cat([shard.read() for shard in rows.shards])
    assert torch.allclose(found, expected, atol=1e-6)
    assert not model.first._forward_hooks


def test_an_interrupted_harvest_is_resumed(layer_model, tokens, tmp_path):
    model = layer_model()

    def full_after_two(done, total, label):
        if done == 8:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        harvest(
            model, "first", tokens, tmp_path, batch_rows=4, shard_rows=4, progress=full_after_two
        )
    model.calls = 0
    rows = harvest(model, "first", tokens, tmp_path, batch_rows=4, shard_rows=4)
    assert model.calls == 2  # of four shards, two were there
    assert rows.total == 100
    model.calls = 0
    harvest(model, "first", tokens, tmp_path, batch_rows=4, shard_rows=4)
    assert model.calls == 0


def test_a_directory_of_other_activations_is_refused(layer_model, tokens, tmp_path):
    model = layer_model()
    harvest(model, "first", tokens, tmp_path / "a")
    with pytest.raises(ValueError, match="another layer"):
        harvest(model, "embed", tokens, tmp_path / "a")
    with pytest.raises(ValueError, match="another text"):
        harvest(model, "first", Tokens(tokens.ids + 1, tokens.mask), tmp_path / "a")
    with pytest.raises(ValueError, match="another model"):
        harvest(layer_model(), "first", tokens, tmp_path / "a")
    with pytest.raises(ValueError, match="another dtype"):
        harvest(model, "first", tokens, tmp_path / "a", dtype=torch.bfloat16)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match="not empty"):
        harvest(model, "first", tokens, tmp_path / "b")


def test_wrong_layers(layer_model, tokens, tmp_path):
    with pytest.raises(ValueError, match="did you mean 'first'"):
        harvest(layer_model(), "frist", tokens, tmp_path / "a")
    with pytest.raises(ValueError, match="matches 2 modules"):
        harvest(layer_model(), "*[ed]*", tokens, tmp_path / "a")
    model = layer_model()
    with pytest.raises(AssertionError):  # what the model itself raises comes through
        harvest(model, "unused", tokens, tmp_path / "a")
    assert not model.unused._forward_hooks


def test_a_layer_that_is_never_called(layer_model, tokens, tmp_path):
    model = layer_model()
    model.forward = lambda input_ids, attention_mask: model.embed(input_ids)
    with pytest.raises(ValueError, match="never calls 'unused'"):
        harvest(model, "unused", tokens, tmp_path)


def test_activations_that_are_not_finite(layer_model, tokens, tmp_path):
    model = layer_model()
    model.first.bias.data[0] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        harvest(model, "first", tokens, tmp_path)


def test_text_without_tokens(layer_model, tmp_path):
    empty = Tokens(torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="no tokens"):
        harvest(layer_model(), "first", empty, tmp_path)


def test_a_pattern_that_matches_many_modules_names_a_few(tmp_path):
    model = torch.nn.Sequential(*[torch.nn.Linear(2, 2) for _ in range(9)])
    with pytest.raises(ValueError, match=r"matches 9 modules: 0, 1, 2, 3, 4, …; name one"):
        one_place(model, "?")
