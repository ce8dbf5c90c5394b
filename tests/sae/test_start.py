"""A training that starts from an autoencoder which was trained before goes on from there."""

import copy
from pathlib import Path

import pytest
import torch

import sparsact as sa
from sparsact.sae import (
    SAEConfig,
    SAETrainConfig,
    SAETrainer,
    SparseAutoencoder,
    evaluate,
    load_sae,
    load_saelens,
    load_sparsify,
    save_sae,
    save_saelens,
)
from sparsact.sae.sae_config import KINDS

PEERS = Path(__file__).parent / "peers"
STILL = SAETrainConfig(lr=1e-12, lr_warmup_steps=0, coefficient=0.0)


def figures(sae, batches):
    quality = evaluate(sae, batches)
    return quality.l0, quality.fvu


def trained(kind, batches, **config):
    sae = SparseAutoencoder(SAEConfig(16, 48, kind, k=4, **config))
    SAETrainer(sae, SAETrainConfig(lr=2e-3, lr_warmup_steps=5)).fit(batches, steps=60)
    return sae


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "custom"])
def test_a_step_without_length_leaves_a_loaded_one_as_it_was(kind, batches, sparse_data, tmp_path):
    sae = load_sae(save_sae(trained(kind, batches), tmp_path / "sae"))
    before = figures(sae, [sparse_data[5000:]])
    SAETrainer(sae.train(), STILL).step(next(batches))
    assert sae.scale_in != 1
    assert figures(sae, [sparse_data[5000:]]) == pytest.approx(before, rel=0.01)


def test_a_second_trainer_goes_on_where_the_first_ended(batches, sparse_data):
    sae = trained("relu", batches)
    before = figures(sae, [sparse_data[5000:]])
    SAETrainer(sae, STILL).step(4 * next(batches))
    assert figures(sae, [sparse_data[5000:]]) == pytest.approx(before, rel=0.01)


def test_a_transcoder_goes_on(batches, sparse_data, tmp_path):
    pairs = ((batch, 3 * batch[:, :8]) for batch in batches)
    sae = load_sae(save_sae(trained("jumprelu", pairs, d_out=8), tmp_path / "sae"))
    held_out = [(sparse_data[5000:], 3 * sparse_data[5000:, :8])]
    before = figures(sae, held_out)
    SAETrainer(sae.train(), STILL).step(next(pairs))
    assert sae.scale_in != sae.scale_out
    assert figures(sae, held_out) == pytest.approx(before, rel=0.01)


@pytest.mark.parametrize(
    "name",
    [
        *("saelens_standard", "saelens_jumprelu", "saelens_gated", "saelens_scaled"),
        *("saelens_batchtopk_training", "saelens_jumprelu_transcoder"),
    ],
)
def test_what_a_peer_wrote_trains_on(name):
    sae = load_saelens(PEERS / name)
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    before = sae(x)
    SAETrainer(sae, STILL).step((x, before.detach()) if sae.config.is_transcoder else x)
    torch.testing.assert_close(sae(x), before, atol=1e-4, rtol=1e-4)
    assert torch.allclose(sae.W_dec.norm(dim=1), torch.ones(sae.config.d_sae))


@pytest.mark.parametrize(
    ("read", "name"), [(load_saelens, "saelens_topk"), (load_sparsify, "sparsify_topk")]
)
def test_rows_whose_lengths_cannot_be_moved_are_an_error(read, name):
    with pytest.raises(ValueError, match=r"rows are .* long.*TopK"):
        SAETrainer(read(PEERS / name), STILL).step(torch.randn(20, 6))


@pytest.mark.parametrize("module", [sa.nn.Softshrink(0.3), sa.nn.JumpReLU(0.3)], ids=repr)
def test_a_fixed_level_stays_and_the_scale_is_saved(module, batches, sparse_data, tmp_path):
    sae = SparseAutoencoder(SAEConfig(16, 48, "custom"), copy.deepcopy(module))
    config = SAETrainConfig(lr=2e-3, lr_warmup_steps=5, sparsity_warmup_steps=0)
    SAETrainer(sae, config, penalty=sa.L1(1.0)).fit(batches, steps=20)
    before = figures(sae, [sparse_data[5000:]])
    loaded = load_sae(save_sae(sae, tmp_path / "sae"), copy.deepcopy(module))
    assert figures(loaded, [sparse_data[5000:]]) == pytest.approx(before, rel=1e-3)
    SAETrainer(loaded.train(), STILL).step(4 * next(batches))
    loaded = load_sae(save_sae(loaded, tmp_path / "sae"), copy.deepcopy(module))
    assert figures(loaded, [sparse_data[5000:]]) == pytest.approx(before, rel=0.01)


def test_a_scale_that_saelens_has_no_place_for_is_an_error(batches, tmp_path):
    sae = SparseAutoencoder(SAEConfig(16, 48, "custom"), sa.nn.JumpReLU(0.3))
    SAETrainer(sae, STILL).step(next(batches))
    with pytest.raises(ValueError, match="fixed level"):
        save_saelens(sae, tmp_path / "out")
