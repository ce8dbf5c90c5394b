import math

import pytest
import torch

import sparsact as sa
from sparsact.sae import (
    SAEConfig,
    SAETrainConfig,
    SAETrainer,
    SparseAutoencoder,
    code,
    evaluate,
    geometric_median,
)
from sparsact.sae.kinds import sparsity_term
from sparsact.sae.training.sae_loss import SAELoss

CONFIG = SAETrainConfig(lr=2e-3, lr_warmup_steps=20, sparsity_warmup_steps=50)


def make(kind="topk", **arguments):
    return SparseAutoencoder(
        SAEConfig(**{"d_in": 16, "d_sae": 48, "k": 4} | arguments, activation=kind)
    )


def trained(sae, batches, steps, **changes):
    trainer = SAETrainer(sae, SAETrainConfig(**{**vars(CONFIG), **changes}))
    return trainer, list(trainer.run(batches, steps))


@pytest.mark.parametrize("kind", ["relu", "topk", "batch_topk", "jumprelu", "softshrink", "gated"])
def test_every_kind_learns_and_its_decoder_stays_on_the_sphere(kind, batches, sparse_data):
    sae = make(kind)
    _, stats = trained(sae, batches, 150)
    assert stats[-1].fvu < 0.6 * stats[0].fvu
    assert torch.allclose(sae.W_dec.norm(dim=1), torch.ones(48), atol=1e-5)
    assert evaluate(sae, [sparse_data[5000:]]).fvu < 0.6


def test_the_step_has_no_part_along_the_dictionary(batches):
    sae = make()
    seen = []
    trainer = SAETrainer(sae, CONFIG)
    step = trainer.optimizer.step
    trainer.optimizer.step = lambda: (seen.append((sae.W_dec.grad * sae.W_dec).sum(1)), step())
    trainer.step(next(batches))
    assert seen[0].abs().max() < 1e-6
    assert sae.W_dec.norm(dim=1).sub(1).abs().max() < 1e-6


def test_the_first_batch_sets_scale_and_bias_and_is_not_touched(batches):
    sae = make()
    batch = next(batches)
    kept = batch.clone()
    SAETrainer(sae, SAETrainConfig(lr=1e-30)).step(batch)
    scale = 4 / batch.norm(dim=1).mean()
    assert torch.equal(batch, kept)
    assert torch.allclose(sae.scale_in, scale)
    assert torch.allclose(sae.b_dec, geometric_median(batch * scale), atol=1e-5)
    assert not torch.allclose(sae.b_dec, (batch * scale).mean(0), atol=1e-3)


def test_warm_ups(batches):
    _, stats = trained(make("relu"), batches, 30, lr_warmup_steps=10, sparsity_warmup_steps=20)
    assert [round(s.lr / CONFIG.lr, 6) for s in stats[:3]] == [0.1, 0.2, 0.3]
    assert stats[10].lr == stats[29].lr == CONFIG.lr
    assert stats[0].coefficient == 0
    assert stats[10].coefficient == pytest.approx(CONFIG.coefficient / 2)
    assert stats[25].coefficient == CONFIG.coefficient


def test_aux_loss_teaches_dead_latents_and_leaves_the_living_alone():
    sae = make()
    loss = SAELoss(sae, None, aux_k=4, aux_coefficient=1.0)
    x = torch.randn(32, 16)
    dead = torch.zeros(48, dtype=torch.bool)
    dead[:10] = True
    loss._aux(sae.centered(x), x, sae(x), dead).backward()
    assert sae.encoder.weight.grad[:10].abs().sum() > 0
    assert sae.W_dec.grad[:10].abs().sum() > 0
    assert sae.W_dec.grad[10:].abs().sum() == 0
    assert sae.encoder.weight.grad[10:].abs().sum() == 0


def test_a_latent_that_does_not_fire_dies_and_is_counted(batches):
    sae = make(k=1)
    sae.encoder.bias.data[:5] = -1e3
    _, stats = trained(sae, batches, 4, dead_after=512, aux_k=0)
    assert [s.dead >= 5 for s in stats] == [False, True, True, True]


def test_a_gradient_that_is_not_finite_moves_nothing(batches):
    sae = make("relu")
    trainer = SAETrainer(sae, CONFIG)
    trainer.step(next(batches))
    before = {name: value.clone() for name, value in sae.state_dict().items()}
    hook = sae.W_dec.register_hook(lambda grad: grad * math.inf)
    assert trainer.step(next(batches)).skipped == 1
    hook.remove()
    assert all(torch.equal(value, before[name]) for name, value in sae.state_dict().items())
    assert trainer.step(next(batches)).skipped == 1
    assert not torch.equal(sae.W_dec, before["W_dec"])


def test_gradient_clipping(batches):
    sae = make("relu")
    seen = []
    trainer = SAETrainer(sae, SAETrainConfig(clip_grad_norm=1e-3))
    step = trainer.optimizer.step
    trainer.optimizer.step = lambda: (
        seen.append(torch.stack([p.grad.norm() for p in sae.parameters()]).norm()),
        step(),
    )
    assert trainer.step(next(batches)).gradient_norm > 1e-3
    assert seen[0] == pytest.approx(1e-3, rel=1e-3)


def test_bfloat16_keeps_parameters_and_optimizer_in_float32(batches):
    sae = make("jumprelu")
    trainer, stats = trained(sae, batches, 60, mixed_precision="bf16")
    assert stats[-1].fvu < stats[0].fvu
    assert {p.dtype for p in sae.parameters()} == {torch.float32}
    state = trainer.optimizer.state_dict()["state"].values()
    assert {entry["exp_avg"].dtype for entry in state} == {torch.float32}
    assert len(sae.activation.lambd.unique()) > 1  # thresholds moved


@pytest.mark.parametrize("kind", ["topk", "batch_topk", "jumprelu", "relu", "softshrink", "gated"])
def test_the_sparse_path_gives_the_numbers_of_the_dense_one(kind, sparse_data, monkeypatch):
    taken = []

    def losses(sparse):
        torch.manual_seed(0)
        monkeypatch.setattr(
            "sparsact.sae.training.sae_trainer.SPARSE_BELOW", 2.0 if sparse else 0.0
        )
        sae = make(kind)
        encode = "sparsact.sae.training.sae_loss.encode"
        real = code.encode
        monkeypatch.setattr(encode, lambda *args: (taken.append(args[2]), real(*args))[1])
        _, stats = trained(sae, sparse_data[:5120].split(256), 20, dead_after=600, lr=1e-3)
        return [s.loss for s in stats], [s.l0 for s in stats], stats[-1].dead

    found, expected = losses(True), losses(False)
    assert sum(taken[:20]) >= 19  # the first step knows no density yet
    assert not any(taken[20:])
    assert found[0] == pytest.approx(expected[0], rel=1e-4)
    assert found[1] == pytest.approx(expected[1], rel=1e-2)
    assert abs(found[2] - expected[2]) <= 1


@pytest.mark.parametrize("kind", ["topk", "batch_topk", "jumprelu", "relu", "softshrink", "gated"])
def test_the_sparse_path_serves_mixed_precision_too(kind, sparse_data, monkeypatch):
    taken, asked = [], []
    encode, select = code.encode, code.linear_topk

    def losses(sparse):
        monkeypatch.setattr(
            "sparsact.sae.training.sae_trainer.SPARSE_BELOW", 2.0 if sparse else 0.0
        )
        torch.manual_seed(0)
        data = sparse_data[:5120].split(256)
        _, stats = trained(make(kind), data, 20, lr=1e-3, mixed_precision="bf16")
        return [s.loss for s in stats]

    monkeypatch.setattr(
        "sparsact.sae.training.sae_loss.encode",
        lambda *args: (taken.append(args[2]), encode(*args))[1],
    )
    monkeypatch.setattr(
        code, "linear_topk", lambda *args, **given: (asked.append(given), select(*args, **given))[1]
    )
    found, expected = losses(True), losses(False)
    assert sum(taken[:20]) >= 19
    assert not any(taken[20:])
    assert asked == [{"select_dtype": torch.bfloat16}] * (20 if kind == "topk" else 0)
    assert found == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("kind", ["topk", "batch_topk", "jumprelu", "relu", "softshrink", "gated"])
def test_the_sparse_path_gives_the_gradients_of_the_dense_one(kind):
    def gradients(sparse):
        torch.manual_seed(0)
        sae = make(kind, bandwidth=0.5)
        term = sparsity_term(sae.config, sae.activation)
        loss = SAELoss(sae, term, aux_k=4, aux_coefficient=1.0)
        x = 2 * torch.randn(200, 16)
        parts = loss(x, x, 0.1, torch.arange(48) < 5, sparse)
        parts.total.backward()
        return parts, [parameter.grad for parameter in sae.parameters()]

    (found, ours), (expected, theirs) = gradients(True), gradients(False)
    assert torch.equal(found.fired, expected.fired)
    assert found.l0 == pytest.approx(expected.l0.item())
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


def test_a_transcoder_trains(sparse_data):
    target = sparse_data.flip(1)[:, :10] * 3
    sae = make(d_out=10)
    pairs = [(sparse_data[i : i + 250], target[i : i + 250]) for i in range(0, 5000, 250)] * 8
    _, stats = trained(sae, pairs, 160)
    assert stats[-1].fvu < 0.4
    assert evaluate(sae, [(sparse_data[5000:], target[5000:])]).fvu < 0.5


def test_a_penalty_of_your_own(batches):
    sae = make("relu")
    config = SAETrainConfig(coefficient=0.05, sparsity_warmup_steps=0, lr=2e-3)
    trainer = SAETrainer(sae, config, penalty=sa.LogSum(1.0, eps=0.1))
    stats = list(trainer.run(batches, 100))
    assert stats[-1].l0 < 0.5 * stats[0].l0


def test_term_of_jumprelu_is_l0_of_its_own_thresholds():
    sae = make("jumprelu")
    pre = torch.randn(8, 48)
    term = sparsity_term(sae.config, sae.activation)
    assert term(pre, sae.activation(pre)) == (sae.activation(pre) > 0).sum()


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (torch.randn(4, 15), r"\(batch, 16\)"),
        (torch.randn(16), r"\(batch, 16\)"),
        (torch.full((4, 16), torch.nan), "NaN"),
        ((torch.randn(4, 16), torch.randn(4, 16)), "one tensor"),
        (torch.zeros(4, 16), "all zero"),
    ],
)
def test_wrong_batches(batch, message):
    with pytest.raises(ValueError, match=message):
        SAETrainer(make(), CONFIG).step(batch)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixed_precision": "bfloat16"}, "'no' or 'bf16', got 'bfloat16'"),
        ({"betas": (2, 3)}, "betas"),
        ({"betas": (0.9,)}, "betas"),
        ({"lr": math.inf}, "lr must be finite"),
        ({"lr": math.nan}, "lr must be positive"),
    ],
)
def test_wrong_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        SAETrainConfig(**changes)


def test_too_few_batches():
    with pytest.raises(ValueError, match="ended after 2 of 5"):
        SAETrainer(make(), CONFIG).fit([torch.randn(8, 16)] * 2, steps=5)
