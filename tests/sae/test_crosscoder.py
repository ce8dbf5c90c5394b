"""Crosscoders: joined layers, their penalty, and the error in each layer."""

import pytest
import torch

from sparsact.sae import (
    CrosscoderPenalty,
    SAEConfig,
    SAETrainConfig,
    SAETrainer,
    SparseAutoencoder,
    join_layers,
    layer_fvu,
    layer_norms,
    open_rows,
    pack_tokens,
    stream_layers,
)
from tiny_language import llama


def two_layers():
    """Layers that share 12 directions and have 6 each of their own, of other scales."""
    generator = torch.Generator().manual_seed(0)
    active = (torch.rand(4000, 24, generator=generator) < 0.1) * torch.rand(
        4000, 24, generator=generator
    )
    directions = torch.randn(2, 24, 16, generator=generator)
    directions[0, 18:] = 0
    directions[1, 12:18] = 0
    return {"a": active @ directions[0], "b": 30 * active @ directions[1, :, :10]}


def test_joined_rows_are_scaled_side_by_side():
    layers = two_layers()
    joined = join_layers({name: open_rows(x, shard_rows=900) for name, x in layers.items()})
    rows = torch.cat([shard.read() for shard in joined.rows.shards])
    assert joined.widths == {"a": 16, "b": 10}
    start = 0
    for name, x in layers.items():
        part = rows[:, start : start + joined.widths[name]]
        torch.testing.assert_close(part, x * joined.scales[name])
        assert float(part.norm(dim=1).mean()) == pytest.approx(joined.widths[name] ** 0.5, rel=0.1)
        start += joined.widths[name]
    train, held_out = joined.rows.split(100, seed=1)
    assert train.total + len(held_out) == 4000


def test_a_stream_of_two_layers_joins():
    tokens = pack_tokens(torch.randint(2, 16, (90,)).tolist(), 10)
    streamed = stream_layers(llama(), "model.layers.*.mlp", tokens, batch_rows=2, shard_forwards=1)
    joined = join_layers(streamed)
    assert joined.rows.width == 64
    assert next(joined.rows.batches(20)).shape == (20, 64)


def test_the_penalty_and_its_gradient():
    torch.manual_seed(0)
    sae = SparseAutoencoder(SAEConfig(26, 40, "relu"))
    latents = torch.rand(7, 40, requires_grad=True)
    found = CrosscoderPenalty(sae, [16, 10])(latents)
    expected = sum(
        latents[:, i].sum() * (sae.W_dec[i, :16].norm() + sae.W_dec[i, 16:].norm())
        for i in range(40)
    )
    torch.testing.assert_close(found, expected)
    for one, other in zip(
        torch.autograd.grad(found, (latents, sae.W_dec), retain_graph=True),
        torch.autograd.grad(expected, (latents, sae.W_dec)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_training_separates_shared_latents_from_those_of_one_layer():
    layers = two_layers()
    joined = join_layers({name: open_rows(x) for name, x in layers.items()})
    train, held_out = joined.rows.split(600, seed=0)
    torch.manual_seed(0)
    sae = SparseAutoencoder(SAEConfig(26, 48, "relu"))
    penalty = CrosscoderPenalty(sae, list(joined.widths.values()))
    config = SAETrainConfig(lr=3e-3, target_l0=4.0, clip_grad_norm=1.0)
    trainer = SAETrainer(sae, config, penalty=penalty)
    trainer.fit(train.batches(256), 400)
    assert trainer.reach_target(held_out) == pytest.approx(4, rel=0.05)
    error = layer_fvu(sae, held_out, joined.widths)
    assert all(value < 0.5 for value in error.values())
    parts = held_out.split([16, 10], 1)
    rebuilt = sae(held_out).detach().split([16, 10], 1)
    for name, x, own in zip(joined.widths, parts, rebuilt, strict=True):
        expected = float((x - own).square().sum() / (x - x.mean(0)).square().sum())
        assert error[name] == pytest.approx(expected, rel=1e-3)
    active = (sae.encode(held_out) > 0).float().mean(0) > 0.005
    norms = layer_norms(sae.W_dec.detach(), [16, 10])[active]
    share = norms[:, 0] / norms.sum(1)
    assert (share > 0.8).any()  # of layer a alone
    assert ((share > 0.3) & (share < 0.7)).any()  # of both


def test_what_is_refused():
    rows = open_rows(torch.randn(30, 4))
    with pytest.raises(ValueError, match="at least two layers"):
        join_layers({"a": rows})
    with pytest.raises(ValueError, match="the same rows"):
        join_layers({"a": rows, "b": open_rows(torch.randn(31, 4))})
    with pytest.raises(ValueError, match="rows are left out"):
        join_layers({"a": rows.split(3, seed=0)[0], "b": open_rows(torch.randn(27, 4))})
    sae = SparseAutoencoder(SAEConfig(8, 16, "relu"))
    with pytest.raises(ValueError, match="do not add up to the 8"):
        CrosscoderPenalty(sae, [4, 5])
    with pytest.raises(ValueError, match="do not add up"):
        layer_fvu(sae, torch.randn(3, 8), {"a": 8, "b": 0})
    with pytest.raises(NotImplementedError):
        CrosscoderPenalty(sae, [4, 4]).prox(torch.randn(3, 16), 0.1)
