import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import kl_div
from transformers import LlamaConfig, LlamaForCausalLM

import sparsact as sa
from sparsact.calibration.updates import Updates


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
def test_each_kind_brings_the_model_nearer_to_the_dense_one(llama, batches, plan, learn, share):
    tuned = plan.tune(llama, batches, 40, learn=learn, lr=5e-3)
    before, after = (
        sum(divergence(found, llama, batch) for batch in batches) for found in (plan, tuned)
    )
    assert after < share * before
    assert tuned.achieved_sparsity == pytest.approx(0.6, abs=0.005)
    assert bool(tuned.updates.values) == ("norms" in learn)
    assert bool(tuned.updates.low_rank) == ("low_rank" in learn)


def test_thresholds_of_a_site_keep_their_proportions(llama, batches, plan):
    tuned = plan.tune(llama, batches, 8, learn=["thresholds"])
    factors = {name: tuned.thresholds[name] / plan.thresholds[name] for name in plan.thresholds}
    for factor in factors.values():
        torch.testing.assert_close(factor, factor[:1].expand_as(factor))
    assert max(float(f[0]) for f in factors.values()) > 1.01 * min(
        float(f[0]) for f in factors.values()
    )


def test_the_model_is_left_as_it_was(llama, batches, plan):
    before = {name: tensor.clone() for name, tensor in llama.state_dict().items()}
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in llama.modules()]
    plan.tune(llama, batches, 2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in llama.state_dict().items())
    assert hooks == [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in llama.modules()]
    assert all(parameter.requires_grad for parameter in llama.parameters())


def test_same_seed_same_plan(llama, batches, plan):
    one, two, other = (plan.tune(llama, batches, 3, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(one.thresholds[n], two.thresholds[n]) for n in one.thresholds)
    assert any(not torch.equal(one.thresholds[n], other.thresholds[n]) for n in one.thresholds)


def test_tuning_goes_on_where_it_stopped(llama, batches, plan):
    once = plan.tune(llama, batches, 30, lr=5e-3)
    before = {name: tensor.clone() for name, tensor in once.updates.tensors().items()}
    twice = once.tune(llama, batches, 30, lr=5e-3)
    assert all(torch.equal(found, before[n]) for n, found in once.updates.tensors().items())
    assert divergence(twice, llama, batches[0]) < divergence(once, llama, batches[0])


def test_saved_applied_and_sparsified(llama, batches, plan, tmp_path):
    tuned = plan.tune(llama, batches, 10, lr=5e-3)
    loaded = sa.ThresholdPlan.load(tuned.save(tmp_path / "plan"))
    own = {name: tensor.clone() for name, tensor in llama.state_dict().items()}
    with loaded.applied(llama), torch.no_grad():
        wanted = llama(**batches[0]).logits
        assert not torch.equal(llama.model.norm.weight, own["model.norm.weight"])
    assert all(torch.equal(tensor, own[name]) for name, tensor in llama.state_dict().items())
    fast = sa.sparsify(copy.deepcopy(llama), loaded, dtype="float32")
    torch.testing.assert_close(fast(**batches[0]).logits, wanted, rtol=1e-4, atol=1e-4)


def test_updates_are_in_a_model_once_at_a_time(llama, batches, plan):
    tuned = plan.tune(llama, batches, 10, lr=5e-3)
    own = {name: tensor.clone() for name, tensor in llama.state_dict().items()}
    first, applied = plan.apply(llama), tuned.apply(llama)
    changed = {name: tensor.clone() for name, tensor in llama.state_dict().items()}
    for use in (
        lambda: tuned.apply(llama),
        lambda: tuned.measure(llama, batches),
        lambda: tuned.tune(llama, batches, 1),
        lambda: sa.sparsify(llama, tuned),
        lambda: sa.sparsify(copy.deepcopy(llama), tuned),
    ):
        with pytest.raises(RuntimeError, match="updates are in the model already"):
            use()
    assert all(torch.equal(found, changed[name]) for name, found in llama.state_dict().items())
    first.remove()  # an untuned one, in any order
    applied.remove()
    assert all(torch.equal(found, own[name]) for name, found in llama.state_dict().items())
    with tuned.applied(llama):
        assert torch.equal(llama.model.norm.weight, changed["model.norm.weight"])


def test_padding_does_not_count(llama, batches, plan):
    ids = batches[0]["input_ids"]
    padded = {
        "input_ids": torch.cat([ids, torch.full((4, 6), 5)], 1),
        "attention_mask": torch.cat([torch.ones_like(ids), torch.zeros(4, 6, dtype=torch.long)], 1),
    }
    whole, cut = (plan.tune(llama, [batch], 3, learn=["norms"]) for batch in (batches[0], padded))
    for name, value in whole.updates.values.items():
        torch.testing.assert_close(cut.updates.values[name], value, rtol=1e-3, atol=1e-4)


def test_a_model_without_logits_is_brought_nearer_too():
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8))
    batches = list(torch.randn(4, 64, 16))
    plan = sa.calibrate(model, batches, 0.5, score="weight")
    tuned = plan.tune(model, batches, 60, learn=["low_rank"], lr=1e-2, rank=4)

    def error(found):
        with torch.no_grad():
            wanted = model(batches[0])
            with found.applied(model):
                return float((model(batches[0]) - wanted).square().mean())

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
        plan.tune(llama, [], 3)
    with pytest.raises(ValueError, match="low_rank"):
        plan.tune(llama, batches, 3, learn=["weights"])
    with pytest.raises(ValueError, match="at least 1"):
        plan.tune(llama, batches, 0)
    other = copy.deepcopy(llama)
    other.model.layers[0].mlp.up_proj.weight.data.add_(1)
    with pytest.raises(ValueError, match="another model"):
        plan.tune(other, batches, 3)
    with pytest.raises(ValueError, match="smaller lr"):
        plan.tune(llama, batches, 30, lr=1e30)


def test_a_target_is_brought_nearer_than_what_is_none():
    """Half of the outputs are to stay; the other half is free to go."""
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8))
    batches = list(torch.randn(4, 64, 16))
    plan = sa.calibrate(model, batches, 0.6, score="weight")

    def first_half(output, batch):
        assert output.shape == (len(batch), 8)
        return output[:, :4]

    def errors(found):
        with torch.no_grad():
            wanted = model(batches[0])
            with found.applied(model):
                apart = (model(batches[0]) - wanted).square()
        return apart[:, :4].mean(), apart[:, 4:].mean()

    options = {"learn": ["low_rank"], "lr": 1e-2, "rank": 4}
    before = errors(plan)
    tuned = errors(plan.tune(model, batches, 60, target=first_half, **options))
    whole = errors(plan.tune(model, batches, 60, **options))
    assert tuned[0] < 0.9 * before[0]
    assert tuned[0] < whole[0]
    assert tuned[1] > whole[1]


def test_a_target_takes_the_place_of_logits(llama, batches, plan):
    def last(output, batch):
        return output.logits[:, -1]

    tuned = plan.tune(llama, batches, 20, target=last, lr=5e-3)

    def apart(found):
        with torch.no_grad():
            wanted = last(llama(**batches[0]), batches[0])
            with found.applied(llama):
                return (last(llama(**batches[0]), batches[0]) - wanted).square().mean()

    assert apart(tuned) < apart(plan)


def test_the_rate_is_smaller_where_the_plan_was_changed_already(llama, batches, plan):
    compensated = plan.compensate(llama, batches, rank=2)
    for start, lr in ((plan, 2e-3), (compensated, 2e-4)):
        found, same = start.tune(llama, batches, 2), start.tune(llama, batches, 2, lr=lr)
        for name, value in same.updates.values.items():
            assert torch.equal(found.updates.values[name], value)
