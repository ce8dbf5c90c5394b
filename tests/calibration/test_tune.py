import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import kl_div
from transformers import LlamaConfig, LlamaForCausalLM

import sparsact as sa
import tiny_models
from sparsact.calibration.weight_updates import Updates


@pytest.fixture(scope="module")
def llama():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.mul_(4)  # predictions that are not all alike
    return model


@pytest.fixture(scope="module")
def batches():
    ids = torch.randint(97, (4, 4, 24), generator=torch.Generator().manual_seed(0))
    return [{"input_ids": row, "attention_mask": torch.ones_like(row)} for row in ids]


@pytest.fixture(scope="module")
def plan(llama, batches):
    return sa.calibrate(llama, batches, 0.6)


def divergence(plan, model, batch):
    with torch.no_grad():
        dense = model(**batch).logits.log_softmax(-1)
        with plan.applied(model):
            sparse = model(**batch).logits.log_softmax(-1)
    return float(kl_div(sparse, dense, log_target=True, reduction="sum")) / dense[..., 0].numel()


@pytest.mark.parametrize(
    ("learn", "share"), [(["norms"], 0.9), (["low_rank"], 0.6), (["thresholds"], 0.97)], ids=str
)
def test_each_kind_of_learning_lowers_the_divergence(llama, batches, plan, learn, share):
    tuned = sa.tune(plan, llama, batches, 40, learn=learn, lr=5e-3)
    before, after = (
        sum(divergence(actual, llama, batch) for batch in batches) for actual in (plan, tuned)
    )
    assert after < share * before
    assert tuned.achieved_sparsity == pytest.approx(0.6, abs=0.005)
    assert bool(tuned.updates.values) == ("norms" in learn)
    assert bool(tuned.updates.low_rank) == ("low_rank" in learn)


def test_thresholds_of_a_site_keep_their_proportions(llama, batches, plan):
    tuned = sa.tune(plan, llama, batches, 8, learn=["thresholds"])
    factors = {name: tuned.thresholds[name] / plan.thresholds[name] for name in plan.thresholds}
    for factor in factors.values():
        torch.testing.assert_close(factor, factor[:1].expand_as(factor))
    assert max(float(f[0]) for f in factors.values()) > 1.01 * min(
        float(f[0]) for f in factors.values()
    )


def test_the_model_is_left_as_it_was(llama, batches, plan):
    before = {name: tensor.clone() for name, tensor in llama.state_dict().items()}
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in llama.modules()]
    sa.tune(plan, llama, batches, 2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in llama.state_dict().items())
    assert hooks == [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in llama.modules()]
    assert all(parameter.requires_grad for parameter in llama.parameters())


def test_same_seed_same_plan(llama, batches, plan):
    one, two, other = (sa.tune(plan, llama, batches, 3, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(one.thresholds[n], two.thresholds[n]) for n in one.thresholds)
    assert any(not torch.equal(one.thresholds[n], other.thresholds[n]) for n in one.thresholds)


def test_tuning_continues_from_a_tuned_plan(llama, batches, plan):
    once = sa.tune(plan, llama, batches, 30, lr=5e-3)
    before = {name: tensor.clone() for name, tensor in once.updates.tensors().items()}
    twice = sa.tune(once, llama, batches, 30, lr=5e-3)
    assert all(torch.equal(actual, before[n]) for n, actual in once.updates.tensors().items())
    assert divergence(twice, llama, batches[0]) < divergence(once, llama, batches[0])


def test_saved_applied_and_sparsified(llama, batches, plan, tmp_path):
    tuned = sa.tune(plan, llama, batches, 10, lr=5e-3)
    loaded = sa.ThresholdPlan.load(tuned.save(tmp_path / "plan"))
    own = {name: tensor.clone() for name, tensor in llama.state_dict().items()}
    with loaded.applied(llama), torch.no_grad():
        expected = llama(**batches[0]).logits
        assert not torch.equal(llama.model.norm.weight, own["model.norm.weight"])
    assert all(torch.equal(tensor, own[name]) for name, tensor in llama.state_dict().items())
    fast = sa.sparsify(copy.deepcopy(llama), loaded, dtype="float32")
    torch.testing.assert_close(fast(**batches[0]).logits, expected, rtol=1e-4, atol=1e-4)


def test_a_model_can_hold_the_updates_of_one_plan_only(llama, batches, plan):
    tuned = sa.tune(plan, llama, batches, 10, lr=5e-3)
    own = {name: tensor.clone() for name, tensor in llama.state_dict().items()}
    first, applied = plan.apply(llama), tuned.apply(llama)
    changed = {name: tensor.clone() for name, tensor in llama.state_dict().items()}
    for use in (
        lambda: tuned.apply(llama),
        lambda: tuned.measure(llama, batches),
        lambda: sa.tune(tuned, llama, batches, 1),
        lambda: sa.sparsify(llama, tuned),
        lambda: sa.sparsify(copy.deepcopy(llama), tuned),
    ):
        with pytest.raises(RuntimeError, match="updates are in the model already"):
            use()
    assert all(torch.equal(actual, changed[name]) for name, actual in llama.state_dict().items())
    first.remove()  # an untuned one, in any order
    applied.remove()
    assert all(torch.equal(actual, own[name]) for name, actual in llama.state_dict().items())
    with tuned.applied(llama):
        assert torch.equal(llama.model.norm.weight, changed["model.norm.weight"])


def test_padding_does_not_count(llama, batches, plan):
    ids = batches[0]["input_ids"]
    padded = {
        "input_ids": torch.cat([ids, torch.full((4, 6), 5)], 1),
        "attention_mask": torch.cat([torch.ones_like(ids), torch.zeros(4, 6, dtype=torch.long)], 1),
    }
    whole, cut = (
        sa.tune(plan, llama, [batch], 3, learn=["norms"]) for batch in (batches[0], padded)
    )
    for name, value in whole.updates.values.items():
        torch.testing.assert_close(cut.updates.values[name], value, rtol=1e-3, atol=1e-4)


def test_tuning_lowers_the_error_of_a_model_without_logits():
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8))
    batches = list(torch.randn(4, 64, 16))
    plan = sa.calibrate(model, batches, 0.5, score="weight")
    tuned = sa.tune(plan, model, batches, 60, learn=["low_rank"], lr=1e-2, rank=4)

    def error(actual):
        with torch.no_grad():
            expected = model(batches[0])
            with actual.applied(model):
                return float((model(batches[0]) - expected).square().mean())

    assert error(tuned) < 0.9 * error(plan)


def test_updates_of_a_weight():
    linear = nn.Linear(3, 2)
    up, down = torch.randn(2, 1), torch.randn(1, 3)
    updates = Updates({"0.bias": torch.ones(2)}, {"0": (up, down)})
    torch.testing.assert_close(updates.weight("0", linear), linear.weight + up @ down)
    model = nn.Sequential(linear)
    own = linear.weight.detach().clone()
    with updates.write(model):
        torch.testing.assert_close(linear.weight, own + up @ down)
        assert torch.equal(linear.bias, torch.ones(2))
    assert torch.equal(linear.weight, own)
    back = Updates.from_tensors({"else": own, **updates.tensors()})
    assert back.tensors().keys() == updates.tensors().keys()
    assert not Updates()


def test_wrong_use(llama, batches, plan):
    with pytest.raises(ValueError, match="no batches"):
        sa.tune(plan, llama, [], 3)
    with pytest.raises(ValueError, match="low_rank"):
        sa.tune(plan, llama, batches, 3, learn=["weights"])
    with pytest.raises(ValueError, match="at least 1"):
        sa.tune(plan, llama, batches, 0)
    other = copy.deepcopy(llama)
    other.model.layers[0].mlp.up_proj.weight.data.add_(1)
    with pytest.raises(ValueError, match="another model"):
        sa.tune(plan, other, batches, 3)
    with pytest.raises(ValueError, match="smaller lr"):
        sa.tune(plan, llama, batches, 30, lr=1e30)


def test_tuning_lowers_the_error_of_the_target_most():
    """Half of the outputs are to stay; the other half is free to go."""
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8))
    batches = list(torch.randn(4, 64, 16))
    plan = sa.calibrate(model, batches, 0.6, score="weight")

    def first_half(output, batch):
        assert output.shape == (len(batch), 8)
        return output[:, :4]

    def errors(actual):
        with torch.no_grad():
            expected = model(batches[0])
            with actual.applied(model):
                apart = (model(batches[0]) - expected).square()
        return apart[:, :4].mean(), apart[:, 4:].mean()

    options = {"learn": ["low_rank"], "lr": 1e-2, "rank": 4}
    before = errors(plan)
    tuned = errors(sa.tune(plan, model, batches, 60, target=first_half, **options))
    whole = errors(sa.tune(plan, model, batches, 60, **options))
    assert tuned[0] < 0.9 * before[0]
    assert tuned[0] < whole[0]
    assert tuned[1] > whole[1]


def test_a_target_replaces_the_logits(llama, batches, plan):
    def last(output, batch):
        return output.logits[:, -1]

    tuned = sa.tune(plan, llama, batches, 20, target=last, lr=5e-3)

    def apart(actual):
        with torch.no_grad():
            expected = last(llama(**batches[0]), batches[0])
            with actual.applied(llama):
                return (last(llama(**batches[0]), batches[0]) - expected).square().mean()

    assert apart(tuned) < apart(plan)


def test_the_default_lr_is_smaller_for_a_plan_with_updates(llama, batches, plan):
    compensated = sa.compensate(plan, llama, batches, rank=2)
    for start, lr in ((plan, 2e-3), (compensated, 2e-4)):
        actual, same = sa.tune(start, llama, batches, 2), sa.tune(start, llama, batches, 2, lr=lr)
        for name, value in same.updates.values.items():
            assert torch.equal(actual.updates.values[name], value)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_learns_too(llama, batches, plan, dtype):
    """In float32: near 1 in bfloat16 a step rounds away, and Adam's ε is 0 in float16."""
    model = copy.deepcopy(llama).to(dtype)
    tuned = sa.tune(sa.compensate(plan, model, batches, rank=4), model, batches, 30, lr=2e-3)
    assert {tensor.dtype for tensor in tuned.updates.tensors().values()} == {torch.float32}
    before, after = (
        sum(divergence(actual, model, batch) for batch in batches) for actual in (plan, tuned)
    )
    assert after < 0.7 * before
    # and a plan moves between a model and its copy in another dtype
    assert sa.tune(tuned, llama, batches, 1).updates
    assert divergence(tuned, llama, batches[0]) < divergence(plan, llama, batches[0])


@pytest.mark.parametrize("stored", ["float32", "bfloat16", "int8"])
def test_sparsified_after_tuning_in_each_dtype(llama, batches, plan, stored):
    tuned = sa.tune(plan, llama, batches, 5, lr=5e-3)
    with tuned.applied(llama), torch.no_grad():
        expected = llama(**batches[0]).logits.log_softmax(-1)
    sparse = sa.sparsify(copy.deepcopy(llama), tuned, dtype=stored)
    actual = sparse(**batches[0]).logits.log_softmax(-1)
    apart = (
        float(kl_div(actual, expected, log_target=True, reduction="sum")) / expected[..., 0].numel()
    )
    assert apart < {"float32": 1e-8, "bfloat16": 0.01, "int8": 0.05}[stored]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_thresholds_are_learned_of_activations_in_half_precision(llama, batches, plan, dtype):
    """A tiny threshold makes quotients that half cannot hold."""
    tiny = {name: level.clone() for name, level in plan.thresholds.items()}
    next(iter(tiny.values()))[:4] = 1e-12
    tuned = sa.tune(
        replace(plan, thresholds=tiny),
        copy.deepcopy(llama).to(dtype),
        batches,
        3,
        learn=["thresholds"],
    )
    assert all(bool(level.isfinite().all()) for level in tuned.thresholds.values())


class Routed(nn.Module):
    """Rows go to the expert that their first entry's sign names, of those that have rows or all."""

    def __init__(self, empty):
        super().__init__()
        self.positive, self.negative = nn.Linear(6, 6), nn.Linear(6, 6)
        self.empty = empty

    def forward(self, x):
        up = x[:, 0] > 0
        y = torch.empty_like(x)
        for rows, expert in ((up, self.positive), (~up, self.negative)):
            if self.empty or bool(rows.any()):
                y[rows] = expert(x[rows])
        return y


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("learn", [["low_rank"], ["thresholds", "norms"]], ids=str)
def test_experts_that_the_first_batches_do_not_reach(empty, learn):
    torch.manual_seed(0)
    model = Routed(empty)
    some = [torch.randn(50, 6) for _ in range(10)]
    for x in some[:9]:
        x[:, 0].abs_()
    plan = sa.calibrate(model, some[::-1], 0.5, score="weight")
    assert len(plan.sites) == 2
    tuned = sa.tune(sa.compensate(plan, model, some, rank=2), model, some, 12, learn=learn)
    assert tuned.measure(model, some)["positive"] == pytest.approx(0.5, abs=0.1)
    assert all(bool(level.isfinite().all()) for level in tuned.thresholds.values())


def test_batches_without_a_counted_token_are_left_out(llama, batches):
    plan = sa.calibrate(llama, batches, 0.5, keep_first=2)
    short = {name: value[:, :2] for name, value in batches[0].items()}
    tuned = sa.tune(plan, llama, [short, *batches], 10)
    assert all(bool(value.isfinite().all()) for value in tuned.updates.tensors().values())
    with pytest.raises(ValueError, match="no token counts"):
        sa.tune(plan, llama, [short], 10)


def test_a_single_logit_is_a_number_not_a_class():
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(vocab_size=61, num_labels=1, **tiny_models.SIZES)
    model = tiny_models.spread(BertForSequenceClassification(config))
    sentences = tiny_models.token_batches()
    plan = sa.calibrate(model, sentences, 0.5, score="weight")

    def error(actual):
        total = 0.0
        with torch.no_grad():
            for batch in sentences:
                dense = model(**batch).logits
                with actual.applied(model):
                    total += float((model(**batch).logits - dense).square().sum())
        return total

    assert error(sa.tune(plan, model, sentences, 40, lr=0.02)) < 0.3 * error(plan)


def test_training_while_updates_are_applied_raises(llama, batches, plan):
    tuned = sa.tune(plan, llama, batches, 2)
    model = copy.deepcopy(llama)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    applied = tuned.apply(model)
    model(**batches[0]).logits.square().mean().backward()
    optimizer.step()
    with pytest.raises(RuntimeError, match="changed while the plan was applied"):
        applied.remove()
    assert torch.equal(model.model.norm.weight, before["model.norm.weight"])
    model.load_state_dict(before)
    with plan.applied(model):  # without updates, training goes through
        model(**batches[0]).logits.square().mean().backward()
        optimizer.step()
    assert not torch.equal(model.model.norm.weight, before["model.norm.weight"])
