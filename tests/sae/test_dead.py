"""Dead latents that are pointed at what is explained worst, and fire again."""

import pytest
import torch

from sparsact.sae import SAEConfig, SAETrainConfig, SAETrainer, SparseAutoencoder
from sparsact.sae.training.dead_latents import forget_, resample_

CONFIG = {"lr": 2e-3, "lr_warmup_steps": 20, "sparsity_warmup_steps": 50, "aux_k": 0}
KINDS = ["relu", "topk", "batch_topk", "jumprelu", "softshrink", "gated"]


def make(kind, **sizes):
    return SparseAutoencoder(
        SAEConfig(**{"d_in": 16, "d_sae": 48, "k": 4} | sizes, activation=kind)
    )


def silence(sae, number):
    """Make the first latents dead, by what the kind has to do so."""
    if sae.config.activation in ("jumprelu", "softshrink"):
        sae.activation.lambd.data[:number] = 1e3
    elif sae.config.activation == "gated":
        sae.activation.bias.data[:number] = -1e3
    else:
        sae.encoder.bias.data[:number] = -1e3


@pytest.mark.parametrize("d_out", [None, 10])
@pytest.mark.parametrize("kind", KINDS)
def test_most_of_the_revived_fire_at_once(kind, d_out, batches, sparse_data):
    torch.manual_seed(0)
    sae = make(kind, d_out=d_out)
    pairs = batches if d_out is None else ((batch, batch[:, :10]) for batch in batches)
    SAETrainer(sae, SAETrainConfig(**CONFIG)).fit(pairs, steps=60)
    silence(sae, 12)
    x = sparse_data[:512]
    dead = torch.arange(48) < 12
    assert not (sae.encode(x) != 0).any(0)[:12].any()
    before = {name: value.clone() for name, value in sae.named_buffers()}
    target = x if d_out is None else x[:, :10]
    revived = resample_(sae, dead, x, target, torch.Generator().manual_seed(0))
    assert all(torch.equal(value, before[name]) for name, value in sae.named_buffers())
    for training in (False, True):
        sae.train(training)
        assert (sae.encode(x) != 0).any(0)[:12].sum() >= 10
    assert revived.sum() == 12


def test_resampling_brings_latents_back(sparse_data):
    sae = make("relu")
    optimizer = torch.optim.Adam(sae.parameters())
    sae(sparse_data[:64]).square().sum().backward()
    optimizer.step()
    with torch.no_grad():
        sae.encoder.bias[:6] = -1e3
    dead = torch.zeros(48, dtype=torch.bool)
    dead[:6] = True
    x = sparse_data[:512]
    others = sae.W_dec[6:].clone()
    assert (sae.encode(x)[:, :6] == 0).all()
    revived = resample_(sae, dead, x, x, torch.Generator().manual_seed(0))
    assert torch.equal(revived, dead)
    forget_(optimizer, sae, revived)
    assert ((sae.encode(x)[:, :6] != 0).sum(0) > 0).all()
    assert torch.equal(sae.W_dec[6:], others)
    assert optimizer.state[sae.W_dec]["exp_avg"][:6].abs().sum() == 0
    assert optimizer.state[sae.W_dec]["exp_avg"][6:].abs().sum() > 0


def test_the_levels_of_the_revived_forget_their_moments(batches):
    sae = make("jumprelu")
    optimizer = torch.optim.Adam(sae.parameters())
    sae(next(batches)).square().sum().backward()
    optimizer.step()
    optimizer.state[sae.activation.lambd]["exp_avg"].fill_(1.0)
    forget_(optimizer, sae, torch.arange(48) < 6)
    assert optimizer.state[sae.activation.lambd]["exp_avg"].tolist() == [0.0] * 6 + [1.0] * 42


def test_resampling_in_training(batches):
    sae = make("relu")
    sae.encoder.bias.data[:5] = -1e3
    config = SAETrainConfig(**CONFIG, dead_after=512, resample_every=4)
    trainer = SAETrainer(sae, config)
    stats = list(trainer.run(batches, 8))
    assert stats[2].dead >= 5
    assert stats[3].dead == 0
    assert (sae.encode(next(batches))[:, :5] != 0).any(0).all()
    assert trainer.steps == 8


def test_only_the_revived_get_a_new_lease(sparse_data):
    sae = make("relu")
    silence(sae, 20)
    trainer = SAETrainer(sae, SAETrainConfig(**CONFIG, dead_after=20, resample_every=4))
    stats = list(trainer.run((sparse_data[i : i + 8] for i in range(0, 64, 8)), 4))
    assert stats[2].dead >= 20
    assert stats[3].dead >= 12  # eight rows revive eight
