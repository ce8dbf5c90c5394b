"""Padding, leading tokens and caches: which positions an attached autoencoder changes."""

import pytest
import torch

from attached_models import IDS, LAYERS, ByHand, autoencoder, logits, padded
from sparsact.sae import TrainedOn, attach
from tiny_language import llama


@pytest.mark.parametrize("skip", [0, 1, 2])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_and_leading_tokens_do_not_count(side, skip, model):
    sae = autoencoder("relu").eval()
    inputs = padded(side)
    seen = []
    with attach(model, {LAYERS[0]: sae}, "replace", skip=skip) as sites, torch.no_grad():
        with ByHand(model.get_submodule(LAYERS[0]), lambda x: seen.append(x) or x):
            logits(model, **inputs)
        latents = sites[LAYERS[0]].latents
    with torch.no_grad(), ByHand(model.get_submodule(LAYERS[0]), lambda x: seen.append(x) or x):
        logits(model, **inputs)
    first = 3 if side == "left" else 0
    counts = torch.zeros(2, 9, dtype=torch.bool)
    counts[0, skip:] = counts[1, first + skip : first + 6] = True
    assert torch.equal(latents != 0, (sae.encode(seen[1]) != 0) & counts[..., None])
    assert torch.equal((seen[0] == seen[1]).all(-1), ~counts)


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("mode", ["error", "replace"])
def test_generate_with_a_cache_is_the_same_as_without(cache, mode, model):
    sae = autoencoder("relu").eval()
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": 31}
    with attach(model, {LAYERS[0]: sae}, mode, skip=1, record="all") as sites:
        sites[LAYERS[0]].clamp({3: 40.0})
        found = model.generate(**padded("left"), use_cache=cache, **options)
        calls, latents = sites[LAYERS[0]].calls, sites[LAYERS[0]].latents
        expected = padded("left")["input_ids"]
        mask = padded("left")["attention_mask"]
        for _ in range(found.shape[1] - 9):  # one forward over everything for each token
            output = model(
                input_ids=expected,
                attention_mask=mask,
                position_ids=(mask.cumsum(1) - 1).clamp(min=0),
            )
            expected = torch.cat([expected, output.logits[:, -1:].argmax(-1)], 1)
            mask = torch.cat([mask, torch.ones(2, 1, dtype=mask.dtype)], 1)
    assert torch.equal(found, expected)
    assert calls == found.shape[1] - 9
    if cache:
        assert latents.shape == (2, found.shape[1] - 1, 64)
    plain = model.generate(**padded("left"), use_cache=cache, **options)
    assert not torch.equal(plain, found)
    with attach(model, {LAYERS[0]: sae}, "error", skip=1):
        assert torch.equal(model.generate(**padded("left"), use_cache=cache, **options), plain)


@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize("eager", [False, True])
def test_a_static_cache_gives_the_latents_of_a_growing_one(eager, skip):
    """Its mask has four dims: bool, or large negative numbers with eager attention."""
    model, sae = llama(), autoencoder("relu").eval()
    if eager:
        model.set_attn_implementation("eager")
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0, "eos_token_id": 31}
    found = []
    for static in ({}, {"cache_implementation": "static", "disable_compile": True}):
        with attach(model, {LAYERS[0]: sae}, "replace", skip=skip, record="all") as sites:
            tokens = model.generate(**padded("left"), **options, **static)
        found.append((tokens, sites[LAYERS[0]].latents))
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], atol=1e-5, rtol=1e-5)
    assert (found[0][1] != 0).any(-1)[1].tolist()[:5] == [False] * 3 + [skip == 0, True]


def test_leading_tokens_are_known_from_the_cache_without_a_mask(model):
    sae = autoencoder("relu").eval()
    with attach(model, {LAYERS[0]: sae}, skip=2) as sites, torch.no_grad():
        first = model(input_ids=IDS[:, :5], use_cache=True)
        assert (sites[LAYERS[0]].latents != 0).any(-1).all(0).tolist() == [False] * 2 + [True] * 3
        model(input_ids=IDS[:, 5:], past_key_values=first.past_key_values)
        assert (sites[LAYERS[0]].latents != 0).any(-1).all()


def test_a_mask_that_is_passed_by_position(model):
    sae = autoencoder("relu").eval()
    inputs = padded("left")
    with attach(model, {LAYERS[0]: sae}, "read", skip=1) as sites, torch.no_grad():
        logits(model, **inputs)
        expected = sites[LAYERS[0]].latents
        model(inputs["input_ids"], inputs["attention_mask"])
        assert torch.equal(sites[LAYERS[0]].latents, expected)


def test_packed_texts_start_where_their_positions_do(model):
    sae = autoencoder("relu").eval()
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4]])
    with attach(model, {LAYERS[0]: sae}, "read", skip=1) as sites, torch.no_grad():
        logits(model, input_ids=IDS[:1], position_ids=positions)
        counted = (sites[LAYERS[0]].latents != 0).any(-1)[0]
    assert counted.tolist() == (positions[0] > 0).tolist()


def test_the_leading_tokens_of_its_training_do_not_count(model):
    sae = autoencoder("relu")
    sae.trained_on = TrainedOn.of(model, LAYERS[0], skip=1)
    with attach(model, {LAYERS[0]: sae}) as sites, torch.no_grad():
        logits(model)
        assert (sites[LAYERS[0]].latents != 0).any(-1)[0].tolist() == [False] + [True] * 8
