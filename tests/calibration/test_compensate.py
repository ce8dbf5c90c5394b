import copy

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import nn

import sparsact as sa
import tiny_models
from sparsact.calibration.calibration_run import CalibrationRun
from sparsact.calibration.site_moments import site_moments


@pytest.fixture
def batches():
    """Correlated features: 6 directions in 16 dims, shifted, with noise."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(6, 16, generator=generator)
    actual = torch.randn(6, 200, 6, generator=generator) @ directions / 2
    noise = 0.1 * torch.randn(6, 200, 16, generator=generator)
    return list(actual + noise + torch.linspace(-0.5, 0.5, 16))


def layer(bias=True, outputs=9):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(16, outputs, bias=bias)).eval()


def error(plan, model, batches):
    total = 0.0
    with torch.no_grad():
        for x in batches:
            dense = model(x)
            with plan.applied(model):
                total += float((model(x) - dense).square().sum())
    return total


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("outputs", [9, 40])
def test_equals_ridge_regression(bias, outputs, batches):
    model = layer(bias, outputs)
    plan = sa.calibrate(model, batches, 0.5, score="weight")
    actual = sa.compensate(plan, model, batches, rank=16).updates

    x = torch.cat(batches).double()
    kept = x.masked_fill(x.abs() <= plan.thresholds["0"], 0)
    weight = model[0].weight.detach().double()
    centred = kept - kept.mean(0) if bias else kept
    ridge = Ridge(
        alpha=0.1 * float(centred.square().mean(0).mean()) * len(x), fit_intercept=bias
    ).fit(kept.numpy(), ((x - kept) @ weight.T).numpy())

    up, down = actual.low_rank["0"]
    np.testing.assert_allclose((up @ down).numpy(), ridge.coef_, atol=1e-4)
    if bias:
        added = actual.values["0.bias"] - model[0].bias.detach()
        np.testing.assert_allclose(added.numpy(), ridge.intercept_, atol=1e-4)
    else:
        assert actual.values == {}


@pytest.mark.parametrize("outputs", [9, 40])
def test_a_lower_rank_gives_the_best_approximation_in_the_metric_of_kept_inputs(outputs, batches):
    model = layer(False, outputs)
    plan = sa.calibrate(model, batches, 0.5, score="weight")
    up, down = sa.compensate(plan, model, batches, rank=3).updates.low_rank["0"]
    assert up.shape == (outputs, 3)
    assert down.shape == (3, 16)

    x = torch.cat(batches).double()
    kept = x.masked_fill(x.abs() <= plan.thresholds["0"], 0)
    square = kept.T @ kept / len(x)
    square += 0.1 * square.diagonal().mean() * torch.eye(16)
    full = model[0].weight.detach().double() @ ((x - kept).T @ kept / len(x)) @ square.inverse()
    values, vectors = torch.linalg.eigh(square)
    root = vectors * values.sqrt() @ vectors.T
    left, sizes, right = torch.linalg.svd(full @ root, full_matrices=False)
    best = left[:, :3] * sizes[:3] @ right[:3] @ root.inverse()
    torch.testing.assert_close((up @ down).double(), best, atol=1e-4, rtol=1e-3)


def test_the_error_falls_with_the_rank_and_the_sparsity_stays(batches):
    model = layer()
    plan = sa.calibrate(model, batches, 0.5, score="weight")
    errors = [error(plan, model, batches)]
    for rank in (1, 4, 9):
        actual = sa.compensate(plan, model, batches, rank=rank)
        errors.append(error(actual, model, batches))
        assert actual.achieved_sparsity == pytest.approx(0.5, abs=0.01)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.85 * errors[0]


@pytest.mark.parametrize("make", [tiny_models.llama, tiny_models.gpt2, tiny_models.qwen2])
def test_a_language_model_stays_unchanged_and_sparsify_equals_the_simulation(make):
    torch.manual_seed(0)
    model = make()
    before = copy.deepcopy(model.state_dict())
    batches = tiny_models.token_batches()
    plan = sa.compensate(sa.calibrate(model, batches, 0.5), model, batches, rank=4)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert plan.achieved_sparsity == pytest.approx(0.5, abs=0.03)
    with torch.no_grad():
        with plan.applied(model):
            simulated = model(**batches[0]).logits
        fast = sa.sparsify(model, plan, "float32")(**batches[0]).logits
    kept = batches[0]["attention_mask"].bool()
    torch.testing.assert_close(fast[kept], simulated[kept], atol=1e-4, rtol=1e-4)


@pytest.mark.versions
def test_padding_and_first_tokens_do_not_count():
    torch.manual_seed(0)
    model = tiny_models.llama()
    batches = tiny_models.token_batches(count=3, rows=4, length=24)
    plan = sa.calibrate(model, batches, 0.5, keep_first=2)
    others = copy.deepcopy(batches)
    for batch in others:
        batch["input_ids"][batch["attention_mask"] == 0] = 7
    actual, same = (
        sa.compensate(plan, model, padded, rank=2).updates for padded in (batches, others)
    )
    for name, (up, down) in actual.low_rank.items():
        torch.testing.assert_close(up @ down, same.low_rank[name][0] @ same.low_rank[name][1])
    run = CalibrationRun(model, batches, plan.sites, plan.keep_first)
    moments = site_moments(run, plan.thresholds, plan.sites)
    assert {own.tokens for own in moments.values()} == {3 * (3 * (24 - 2) + 24 - 8 - 2)}


def test_with_little_memory_the_batches_are_read_for_each_site(batches):
    model = tiny_models.mlp(16, 32, 24, 5)
    plan = sa.calibrate(model, batches, 0.5, score="weight")
    seen = []
    whole = sa.compensate(plan, model, batches, progress=lambda *step: seen.append(step))
    assert seen == [(1, 1, "compensation")]
    actual = sa.compensate(
        plan, model, batches, memory_bytes=8 * 32**2, progress=lambda *step: seen.append(step)
    )
    assert seen[1:] == [(1, 3, "compensation"), (2, 3, "compensation"), (3, 3, "compensation")]
    plain, together, apart = (error(each, model, batches) for each in (plan, whole, actual))
    assert max(together, apart) < 0.8 * plain


def test_a_site_that_keeps_no_input_is_left_alone(batches):
    model = layer()
    plan = sa.calibrate(model, batches, 0.5, score="weight")
    plan.thresholds["0"].fill_(1e6)
    assert not sa.compensate(plan, model, batches).updates


def test_tuning_starts_from_the_compensated_plan():
    torch.manual_seed(0)
    model = tiny_models.llama()
    batches = tiny_models.token_batches()
    plan = sa.compensate(sa.calibrate(model, batches, 0.5), model, batches, rank=3)
    tuned = sa.tune(plan, model, batches, 2, lr=1e-5)
    for name, (up, down) in plan.updates.low_rank.items():
        more, mere = tuned.updates.low_rank[name]
        torch.testing.assert_close(more @ mere, up @ down, atol=1e-3, rtol=0.05)


def test_errors(batches):
    model = layer()
    plan = sa.calibrate(model, batches, 0.5, score="weight")
    with pytest.raises(ValueError, match="rank= must be at least 1, got 0"):
        sa.compensate(plan, model, batches, rank=0)
    with pytest.raises(ValueError, match="no batches to compensate on"):
        sa.compensate(plan, model, [])
    with pytest.raises(ValueError, match="compensate first, then tune"):
        sa.compensate(sa.compensate(plan, model, batches), model, batches)
    with pytest.raises(ValueError, match="for another model"):
        sa.compensate(plan, layer(outputs=10), batches)


def test_corrections_of_a_half_precision_model_are_float32(batches):
    model = layer()
    plan = sa.calibrate(model, batches, 0.5, score="weight")
    whole = sa.compensate(plan, model, batches, rank=4).updates
    model, batches = model.bfloat16(), [x.bfloat16() for x in batches]
    actual = sa.compensate(plan, model, batches, rank=4).updates
    for tensor in actual.tensors().values():
        assert tensor.dtype == torch.float32
        assert tensor.untyped_storage().nbytes() == 4 * tensor.numel()
    up, down = whole.low_rank["0"]
    torch.testing.assert_close(torch.matmul(*actual.low_rank["0"]), up @ down, atol=0.02, rtol=0.1)


def test_shared_weights_get_no_correction(batches):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16), nn.Linear(16, 4))
    model[2].weight = model[0].weight
    before = copy.deepcopy(model.state_dict())
    plan = sa.calibrate(model.eval(), batches, 0.4, score="weight")
    for actual in (sa.compensate(plan, model, batches, rank=2), sa.tune(plan, model, batches, 2)):
        assert set(actual.updates.low_rank) == {"3"}
        with actual.applied(model), torch.no_grad():
            simulated = model(batches[0])
            assert torch.equal(model[0].weight, before["0.weight"])
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, before[name])
        fast = sa.sparsify(copy.deepcopy(model), actual, "float32")
        torch.testing.assert_close(fast(batches[0]), simulated, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["constant", "one row", "large mean"])
def test_inputs_without_variance(kind, batches):
    """A covariance is then 0, or less by rounding."""
    torch.manual_seed(0)
    x = {"one row": batches[0][:1], "constant": batches[0][:1].expand(200, 16)}.get(kind)
    if x is None:
        x = torch.randn(4096, 16)
        x[:, 3] = 3000 + 0.3 * x[:, 3]
    constant = [x]
    model = layer()
    plan = sa.calibrate(model, constant, 0.4, score="weight")
    actual = sa.compensate(plan, model, constant, rank=4)
    assert all(bool(tensor.isfinite().all()) for tensor in actual.updates.tensors().values())
    assert error(actual, model, constant) <= error(plan, model, constant) * 1.001
