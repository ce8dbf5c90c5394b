"""Activations that are computed when batches need them, against those of a harvest."""

import dataclasses

import pytest
import torch

from sparsact.sae import harvest, harvest_layers, pack_tokens, stream_layers
from sparsact.sae.data.streaming import held_out_rows
from tiny_language import llama

LAYERS = "model.layers.*.mlp"


@pytest.fixture(scope="module")
def tokens():
    generator = torch.Generator().manual_seed(0)
    return pack_tokens(torch.randint(2, 16, (150,), generator=generator).tolist(), 10, bos=0)


def joined(rows):
    return torch.cat([shard.read() for shard in rows.shards])


@pytest.mark.parametrize("site", ["output", "input"])
def test_the_activations_are_those_of_a_harvest(tokens, tmp_path, site):
    model = llama()
    streamed = stream_layers(model, LAYERS, tokens, site=site, batch_rows=3)
    stored = harvest_layers(model, LAYERS, tokens, tmp_path, site=site)
    assert list(streamed) == list(stored) == ["model.layers.0.mlp", "model.layers.1.mlp"]
    for name, rows in streamed.items():
        assert rows.total == stored[name].total == 150
        torch.testing.assert_close(joined(rows), joined(stored[name]))


def test_layers_in_turns_share_each_forward(tokens):
    model = llama()
    sizes = {"batch_rows": 4, "shard_forwards": 1, "buffer_rows": 60}
    streamed = stream_layers(model, LAYERS, tokens, **sizes)
    calls = []
    model.model.embed_tokens.register_forward_hook(lambda *_: calls.append(1))
    one, other = (rows.batches(20, buffer_rows=60) for rows in streamed.values())
    for _ in range(5):  # an epoch
        next(one), next(other)
    assert len(calls) == len(streamed["model.layers.0.mlp"].shards)


def test_a_text_that_fits_the_buffer_is_read_once(tokens):
    model = llama()
    calls = []
    rows = stream_layers(model, "model.layers.0", tokens, batch_rows=4)["model.layers.0"]
    model.model.embed_tokens.register_forward_hook(lambda *_: calls.append(1))
    batches = rows.batches(50)
    for _ in range(9):  # three epochs
        next(batches)
    assert len(calls) == 5


def test_any_batch_can_be_the_first(tokens):
    model = llama()
    rows = stream_layers(model, "model.layers.0", tokens, batch_rows=2, shard_forwards=1)[
        "model.layers.0"
    ]
    batches = rows.batches(16, seed=3, buffer_rows=50)
    expected = [next(batches) for _ in range(14)]  # more than one epoch
    for start in (1, 5, 12):
        again = rows.batches(16, seed=3, buffer_rows=50, start=start)
        for batch in expected[start:]:
            assert torch.equal(next(again), batch)


def test_what_waits_for_another_layer_is_bounded(tokens):
    rows = stream_layers(llama(), LAYERS, tokens, batch_rows=1, shard_forwards=1, buffer_rows=20)
    source = rows["model.layers.0.mlp"].shards[0].take.source
    joined(rows["model.layers.0.mlp"])
    assert sum(map(len, source._waiting.values())) <= 20
    joined(rows["model.layers.1.mlp"])  # what was dropped is computed again


def test_held_out_rows_of_text(tokens):
    text, held = held_out_rows(tokens, 20, seed=1)
    assert len(text.ids) + len(held.ids) == len(tokens.ids)
    assert held.kept().sum() >= 20
    everything = {tuple(row) for row in tokens.ids.tolist()}
    assert {tuple(row) for row in (*text.ids.tolist(), *held.ids.tolist())} == everything
    again, _ = held_out_rows(tokens, 20, seed=1)
    assert torch.equal(again.ids, text.ids)
    with pytest.raises(ValueError, match="give more text"):
        held_out_rows(tokens, 150, seed=1)


def test_unusual_norms(tmp_path):
    model = llama()
    with torch.no_grad():
        model.model.embed_tokens.weight[5] *= 1000
    ids = [2, 3, 4, 5, 6, 7, 8, 9, 5, 10]
    tokens = pack_tokens(ids, 10)
    kept = harvest(model, "model.embed_tokens", tokens, tmp_path / "a", max_norm=10)
    assert kept.total == 8
    everything = model.model.embed_tokens(torch.tensor(ids))
    assert torch.equal(joined(kept), everything[torch.tensor(ids) != 5])
    streamed = stream_layers(model, "model.embed_tokens", tokens, max_norm=10)
    rows = joined(streamed["model.embed_tokens"])
    assert len(rows) == 10  # their number is known in advance
    expected = everything.clone()
    expected[3], expected[8] = everything[0], everything[1]
    assert torch.equal(rows, expected)
    with pytest.raises(ValueError, match="another max_norm"):
        harvest(model, "model.embed_tokens", tokens, tmp_path / "a")
    with pytest.raises(ValueError, match="at least 1 median"):
        harvest(model, "model.embed_tokens", tokens, tmp_path / "b", max_norm=0.5)


def test_tokens_that_are_left_out(tokens):
    without = dataclasses.replace(tokens, left_out=(5, 7))
    assert without.fingerprint() != tokens.fingerprint()
    is_out = (tokens.ids == 5) | (tokens.ids == 7)
    assert torch.equal(without.kept(), tokens.kept() & ~is_out)
    rows = stream_layers(llama(), "model.layers.0", without)["model.layers.0"]
    assert rows.total == int(without.kept().sum()) < 150


def test_nan_names_the_layer_and_the_row(tokens):
    model = llama()
    rows = stream_layers(model, "model.layers.0", tokens)["model.layers.0"]
    with torch.no_grad():
        model.model.embed_tokens.weight[int(tokens.ids[7, 3])] = torch.nan
    row = int((tokens.ids == tokens.ids[7, 3]).any(1).nonzero()[0])
    with pytest.raises(ValueError, match=rf"'model\.layers\.0' are NaN or infinite in row {row} "):
        joined(rows)


def test_a_text_without_tokens():
    tokens = pack_tokens([4, 4, 4], 3)
    with pytest.raises(ValueError, match="must be at least 1"):
        stream_layers(llama(), LAYERS, tokens, batch_rows=0)
    with pytest.raises(ValueError, match="no tokens"):
        stream_layers(llama(), LAYERS, dataclasses.replace(tokens, left_out=(4,)))
