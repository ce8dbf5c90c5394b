"""Terms and schedules of the loss, against their formulas."""

import math

import pytest
import torch
from torch.nn import functional

from sae_kind_cases import KIND_CASES, PENALIZED
from sparsact.sae import (
    SAEConfig,
    SAETrainConfig,
    SAETrainer,
    SparseAutoencoder,
    attach,
    end_to_end_loss,
    pack_tokens,
)
from sparsact.sae.training.sae_loss import SAELoss
from sparsact.sae.training.schedule import Schedule
from tiny_language import llama

L1_KINDS = ("relu", "gated", "softshrink")


def autoencoder(kind="topk", d_sae=64, **sizes):
    torch.manual_seed(0)
    return SparseAutoencoder(SAEConfig(16, d_sae, kind, k=4, **sizes)).train()


def loss_of(
    sae, x, target=None, *, prefixes=(), own=None, sparse=False, power=1.0, coefficient=0.0
):
    term = sae.kind.penalty()
    loss = SAELoss(sae, term, 0, 0.0, prefixes, own)
    dead = torch.zeros(sae.config.d_sae, dtype=torch.bool)
    return loss(x, x if target is None else target, coefficient, dead, sparse, power)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("kind", KIND_CASES)
def test_matryoshka(kind, sparse):
    sae, x = autoencoder(kind), torch.randn(12, 16)
    plain = loss_of(sae, x)
    nested = loss_of(sae, x, prefixes=(8, 20), sparse=sparse)
    with torch.no_grad():
        latents = sae.activation(sae.pre_activations(x))
        errors = [
            functional.mse_loss(latents[:, :size] @ sae.W_dec[:size] + sae.b_dec, x)
            for size in (8, 20, 64)
        ]
    expected = torch.stack(errors).mean() - errors[-1]
    torch.testing.assert_close(nested.total - plain.total, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(nested.mse, errors[-1])
    (gradient,) = torch.autograd.grad(nested.total, sae.W_dec)
    (other,) = torch.autograd.grad(loss_of(sae, x, prefixes=(8, 20)).total, sae.W_dec)
    torch.testing.assert_close(gradient, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["topk", "batch_topk", "relu", "jumprelu"])
def test_matryoshka_training_orders_the_latents(kind, batches):
    """The first latents reconstruct more than without the nested loss, at the target L0."""
    found = {}
    for prefixes in ((), (8, 24)):
        torch.manual_seed(0)
        sae = SparseAutoencoder(SAEConfig(16, 96, kind, k=4))
        target = None if kind in ("topk", "batch_topk") else 4.0
        config = SAETrainConfig(lr=3e-3, target_l0=target, prefixes=prefixes)
        trainer = SAETrainer(sae, config)
        trainer.fit(batches, 150)
        held_out = torch.cat([next(batches) for _ in range(4)])
        if target is not None:
            assert trainer.reach_target(held_out) == pytest.approx(4, rel=0.05)
        sae.eval()
        with torch.no_grad():
            latents = sae.encode(held_out)
            latents[:, 8:] = 0
            found[prefixes] = float(functional.mse_loss(sae.decode(latents), held_out))
    assert found[(8, 24)] < 0.8 * found[()]


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("kind", L1_KINDS)
def test_the_exponent_of_the_penalty(kind, sparse):
    sae, x = autoencoder(kind), torch.randn(12, 16)
    annealed = loss_of(sae, x, power=0.4, coefficient=1.0, sparse=sparse)
    pre = sae.pre_activations(x)
    values = pre.relu() if kind == "gated" else sae.activation(pre)
    sizes = values.abs()[values != 0]
    powers = (sizes**0.4).sum()
    expected = powers * (sizes.sum() / powers).detach() / 12
    torch.testing.assert_close(annealed.penalty, expected.detach())  # the value is that of L1
    rest = annealed.total - loss_of(sae, x).total
    parameters = (sae.encoder.weight, sae.encoder.bias)
    for own, other in zip(
        torch.autograd.grad(rest, parameters),
        torch.autograd.grad(expected, parameters),
        strict=True,
    ):
        torch.testing.assert_close(own, other, atol=1e-5, rtol=1e-3)


def test_the_schedules():
    config = SAETrainConfig(
        lr_decay_steps=40, lr_decay="cosine", p_end=0.2, sparsity_warmup_steps=20, k_start=60,
        k_warmup_steps=10,
    )  # fmt: skip
    schedule = Schedule(config, steps=100)
    schedule.begin()
    assert schedule.lr_factor(61) == pytest.approx(1)
    assert schedule.lr_factor(81) == pytest.approx((1 + math.cos(math.pi * 0.5)) / 2)
    assert [schedule.power(step) for step in (1, 20)] == [1, 1]
    assert schedule.power(60) == pytest.approx(0.6)
    assert schedule.power(100) == pytest.approx(0.2)
    assert [schedule.k(step, 20) for step in (1, 6, 11, 99)] == [60, 40, 20, 20]
    unknown = Schedule(config)
    unknown.begin()
    with pytest.raises(ValueError, match="length of the run"):
        unknown.power(1)


@pytest.mark.parametrize("kind", ["topk", "batch_topk"])
def test_k_changes_during_training(kind, batches):
    sae = autoencoder(kind)
    trainer = SAETrainer(sae, SAETrainConfig(k_start=16, k_warmup_steps=6))
    steps = [stats.l0 for stats in trainer.run(batches, 8)]
    assert steps[0] > 12
    assert steps[-1] <= 4
    assert sae.activation.k == 4


def test_a_skip_transcoder_learns_the_linear_part(sparse_data):
    """Also with a scale, and the linear part alone is found by least squares."""
    torch.manual_seed(0)
    matrix = torch.randn(6, 16)
    x = sparse_data[:4000]
    sae = SparseAutoencoder(SAEConfig(16, 64, k=4, d_out=6, skip=True))
    trainer = SAETrainer(sae, SAETrainConfig(lr=1e-2, clip_grad_norm=1.0))
    target = 3 * x @ matrix.T + 1
    order = [torch.randint(4000, (256,)) for _ in range(200)]
    stats = list(trainer.run(((x[rows], target[rows]) for rows in order), 200))
    assert stats[-1].fvu < 0.05 * stats[0].fvu
    predicted = sae.eval()(x).detach()
    variance = (target - target.mean(0)).square().mean()
    assert float((predicted - target).square().mean() / variance) < 0.05
    assert sae.W_skip.norm() > 1


def test_skip_is_left_to_the_skip_connection():
    sae, x = autoencoder(d_out=6, skip=True), torch.randn(9, 16)
    with torch.no_grad():
        sae.W_skip.normal_()
        sae.scale_in.fill_(2.0)
        sae.scale_out.fill_(0.5)
    target = torch.randn(9, 6)
    expected = functional.mse_loss(0.5 * sae(x), 0.5 * target)
    torch.testing.assert_close(loss_of(sae, x, target).total, expected)
    torch.testing.assert_close(0.5 * x @ sae.W_skip.T, sae.skipped(x))


def test_a_loss_of_your_own():
    sae, x = autoencoder(), torch.randn(9, 16)
    seen = []

    def own(model, inputs, target, rebuilt):
        seen.append((inputs, target, rebuilt))
        return 0.1 * model.W_dec.square().sum()

    with_own = loss_of(sae, x, own=own)
    torch.testing.assert_close(
        with_own.total - loss_of(sae, x).total, 0.1 * sae.W_dec.square().sum(), rtol=1e-4, atol=1e-4
    )
    inputs, target, rebuilt = seen[0]
    assert torch.equal(inputs, x)
    torch.testing.assert_close(functional.mse_loss(rebuilt, target), with_own.mse)
    trainer = SAETrainer(autoencoder(), SAETrainConfig(), own_loss=own)
    assert trainer.step(x).loss > 0.1 * 60


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("topk", {"prefixes": (8, 64)}, "below d_sae=64"),
        ("relu", {"k_start": 8}, "a kind that selects"),
        ("topk", {"k_start": 65}, "exceeds d_sae"),
        ("topk", {"p_end": 0.5}, "L1 penalty"),
        ("jumprelu", {"p_end": 0.5}, "L1 penalty"),
    ],
)
def test_options_that_do_not_fit_the_kind(kind, options, message):
    with pytest.raises(ValueError, match=message):
        SAETrainer(autoencoder(kind), SAETrainConfig(**options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prefixes": (8, 8)}, "ascend"),
        ({"prefixes": (0, 8)}, "positive"),
        ({"p_end": 0.0}, "p_end="),
        ({"p_end": 1.5}, "p_end="),
        ({"p_end": math.nan}, "p_end="),
        ({"k_start": 0}, "k_start="),
        ({"k_warmup_steps": -1}, "k_warmup_steps="),
        ({"lr_decay": "cosinus"}, "did you mean 'cosine'"),
    ],
)
def test_options_that_are_no_options(options, message):
    with pytest.raises(ValueError, match=message):
        SAETrainConfig(**options)


class TestEndToEnd:
    """Against a model into which the autoencoder is attached."""

    @pytest.fixture
    def tokens(self):
        return pack_tokens(torch.randint(2, 16, (17,)).tolist(), 7, bos=0)

    @pytest.mark.parametrize("kind", ["kl", "ce"])
    def test_formula_and_gradient(self, tokens, kind):
        model = llama().requires_grad_(False)
        torch.manual_seed(0)
        sae = SparseAutoencoder(SAEConfig(32, 64, k=4))
        found = end_to_end_loss(model, "model.layers.0", sae, tokens, kind=kind)
        inputs = {"input_ids": tokens.ids, "attention_mask": tokens.mask.long()}
        with attach(model, {"model.layers.0": sae}, mode="replace", skip=1):
            spliced = model(**inputs).logits
        predicted = tokens.mask[:, 1:]
        logs = spliced[:, :-1][predicted].log_softmax(-1)
        if kind == "ce":
            expected = functional.nll_loss(logs, tokens.ids[:, 1:][predicted])
        else:
            other = model(**inputs).logits[:, :-1][predicted].log_softmax(-1)
            expected = (other.exp() * (other - logs)).sum(-1).mean()
        torch.testing.assert_close(found.loss, expected)
        for own, theirs in zip(
            torch.autograd.grad(found.loss, (sae.W_dec, sae.encoder.weight)),
            torch.autograd.grad(expected, (sae.W_dec, sae.encoder.weight)),
            strict=True,
        ):
            torch.testing.assert_close(own, theirs, atol=1e-5, rtol=1e-3)
        assert found.latents.shape == (int(tokens.kept().sum()), 64)

    def test_training_on_it_lowers_it(self, tokens):
        model = llama().requires_grad_(False)
        torch.manual_seed(0)
        sae = SparseAutoencoder(SAEConfig(32, 64, k=8))
        optimizer = torch.optim.Adam(sae.parameters(), 1e-2)
        losses = []
        for _ in range(30):
            found = end_to_end_loss(model, "model.layers.0", sae, tokens)
            found.loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(found.loss.detach()))
        assert losses[-1] < 0.5 * losses[0]

    def test_what_is_refused(self, tokens):
        model = llama()
        sae = SparseAutoencoder(SAEConfig(32, 64, k=8))
        with pytest.raises(ValueError, match="kind"):
            end_to_end_loss(model, "model.layers.0", sae, tokens, kind="mse")
        with pytest.raises(ValueError, match="must be"):
            end_to_end_loss(model, "model.layers.0.mlp.up_proj", sae, tokens)
        with pytest.raises(ValueError, match="no token to predict"):
            end_to_end_loss(model, "model.layers.0", sae, pack_tokens([1, 2], 1))
        coder = SparseAutoencoder(SAEConfig(32, 64, k=8, d_out=32))
        with pytest.raises(ValueError, match="transcoder"):
            end_to_end_loss(model, "model.layers.0", coder, tokens)


def test_every_penalized_kind_is_either_annealed_or_refused():
    assert set(L1_KINDS) | {"jumprelu"} == set(PENALIZED)
