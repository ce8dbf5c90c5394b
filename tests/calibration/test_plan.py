import copy
import dataclasses
import json
import math
import pickle
import threading

import pytest
import torch
from torch import nn

import tiny_models
from sparsact.calibration import ThresholdPlan, calibrate, compensate, tune
from sparsact.calibration.first_positions import FirstPositions
from sparsact.calibration.measured_sparsity import byte_sparsity
from sparsact.inference import sparsify


def summed_square(output, batch):
    return output.square().sum()


def simple(sparsity=0.5, **options):
    model, x = tiny_models.mlp(), torch.randn(200, 16)
    return model, x, calibrate(model, [x], sparsity, score="weight", **options)


def hooks_of(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.fixture(scope="module")
def llama_plan():
    torch.manual_seed(1)
    model = tiny_models.llama()
    return model, calibrate(model, tiny_models.token_batches(), 0.5)


def test_save_and_load(llama_plan, tmp_path):
    model, plan = llama_plan
    loaded = ThresholdPlan.load(plan.save(tmp_path / "a" / "plan"))
    assert (loaded.sites, loaded.achieved, loaded.sparsity) == (plan.sites, plan.achieved, 0.5)
    assert (loaded.score, loaded.allocate, loaded.keep_first) == ("loss", "global", 0)
    for name, level in plan.thresholds.items():
        assert torch.equal(loaded.thresholds[name], level)
    loaded.check(model)
    described = json.loads((tmp_path / "a" / "plan" / "plan.json").read_text())
    assert described["sites"][0]["name"] == "model.layers.0.self_attn.q_proj"
    with pytest.raises(FileNotFoundError, match=r"holds no plan\.json"):
        ThresholdPlan.load(tmp_path)


@pytest.mark.parametrize("name", ["plan.json", "plan.safetensors"])
def test_damaged_files_raise(llama_plan, tmp_path, name):
    _, plan = llama_plan
    file = plan.save(tmp_path) / name
    whole = file.read_bytes()
    foreign = json.dumps({"sites": [], "more": 1}).encode()
    for broken in (whole[: len(whole) // 2], b"{}", b"[]", b"", foreign):
        file.write_bytes(broken)
        with pytest.raises(ValueError, match="no threshold plan that can be read"):
            ThresholdPlan.load(tmp_path)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=name):
        ThresholdPlan.load(tmp_path)


def test_readers_of_a_site_share_zeros_within_one_forward_only(llama_plan):
    model, plan = llama_plan
    linear = model.model.layers[0].self_attn
    x = torch.randn(1, 3, 32, requires_grad=True)
    with plan.applied(model):
        for _ in range(2):  # through a graph of its own
            (linear.q_proj(x).sum() + linear.k_proj(x).sum()).backward()
        before = linear.q_proj(x)
        with torch.no_grad():
            x *= 0
            assert not linear.k_proj(x).any()
    assert before.any()


def test_another_model_is_rejected(llama_plan):
    model, plan = llama_plan
    with pytest.raises(ValueError, match="has other weights"):
        plan.check(tiny_models.llama())
    with pytest.raises(ValueError, match=r"there is no 'model\.layers\.0"):
        plan.check(tiny_models.gpt2())
    fewer = copy.deepcopy(model)
    del fewer.model.layers[1]
    with pytest.raises(ValueError, match=r"there is no 'model\.layers\.1"):
        plan.apply(fewer)
    assert hooks_of(fewer) == 0
    plan.check(copy.deepcopy(model).bfloat16())


@pytest.mark.parametrize(
    ("pattern", "change"),
    [
        ("embed_tokens", lambda weight: weight.roll(1, 0)),
        ("lm_head", lambda weight: weight.roll(1, 0)),
        ("norm", lambda weight: -2 * weight),
        ("proj", lambda weight: weight * (1 + 0.015 * torch.randn_like(weight))),
    ],
)
def test_a_change_of_any_parameter_is_recognised(llama_plan, tmp_path, pattern, change):
    model, plan = llama_plan
    other = copy.deepcopy(model)
    for name, parameter in other.named_parameters():
        if pattern in name:
            parameter.data = change(parameter.data)
    loaded = ThresholdPlan.load(plan.save(tmp_path))
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        loaded.check(copy.deepcopy(model).to(dtype))
        with pytest.raises(ValueError, match=f"another model: .*{pattern}"):
            loaded.check(other.to(dtype))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda level: level.fill_(float("nan")), "finite and at least 0"),
        (lambda level: level.fill_(float("inf")), "finite and at least 0"),
        (lambda level: level.neg(), "finite and at least 0"),
        (lambda level: level[:-1], r"of shape \(\d+,\), got \(\d+,\)"),
    ],
    ids=["nan", "inf", "negative", "short"],
)
def test_invalid_thresholds(llama_plan, tmp_path, change, message):
    model, plan = llama_plan
    name = plan.sites[-1].name
    level = change(plan.thresholds[name].clone() + 1)
    wrong = dataclasses.replace(plan, thresholds={**plan.thresholds, name: level})
    with pytest.raises(ValueError, match=f"thresholds of {name!r} must be {message}"):
        wrong.apply(model)
    kinds = [type(module) for module in model.modules()]
    with pytest.raises(ValueError, match=message):
        sparsify(model, wrong)
    assert [type(module) for module in model.modules()] == kinds
    wrong.save(tmp_path)
    with pytest.raises(ValueError, match=f"no threshold plan that can be read .*{message}"):
        ThresholdPlan.load(tmp_path)


def test_an_old_file_recognises_its_model_by_the_layers(llama_plan, tmp_path):
    model, plan = llama_plan
    loaded = ThresholdPlan.load(dataclasses.replace(plan, others={}).save(tmp_path))
    assert loaded.others == {}
    other = copy.deepcopy(model)
    other.model.norm.weight.data *= -2
    loaded.check(other)


def test_equal_weights_of_another_shape_are_another_model():
    model, x = nn.Sequential(nn.Linear(8, 4)), torch.randn(50, 8)
    model[0].weight.data.fill_(1)
    plan = calibrate(model, [x], 0.3, score="magnitude")
    other = nn.Sequential(nn.Linear(4, 8))
    other[0].weight.data.fill_(1)
    with pytest.raises(ValueError, match="another model"):
        plan.check(other)


def test_entries_up_to_the_threshold_are_zero_and_others_pass():
    model, x, plan = simple()
    first = model[0]
    with plan.applied(model):
        actual = model[:1](x)
    kept = torch.where(x.abs() > plan.thresholds["0"], x, 0)
    torch.testing.assert_close(actual, nn.functional.linear(kept, first.weight, first.bias))
    assert not torch.equal(actual, first(x))


def test_gradient_passes_where_the_activation_does():
    model, x, plan = simple()
    model.train()
    x = x.clone().requires_grad_()
    handle = plan.apply(model)
    model(x).square().sum().backward()
    handle.remove()
    active = x.detach().abs() > plan.thresholds["0"]
    assert (~active).any()
    assert not x.grad[~active].any()
    reads = torch.where(active, x.detach(), 0).requires_grad_()
    hidden = model[:2](reads)
    hidden = torch.where(hidden.abs() > plan.thresholds["2"], hidden, 0)
    hidden = model[2:4](hidden)
    model[4](torch.where(hidden.abs() > plan.thresholds["4"], hidden, 0)).square().sum().backward()
    torch.testing.assert_close(x.grad, torch.where(active, reads.grad, 0))
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.training


def test_applied_leaves_no_hook():
    model, x, plan = simple()
    before = model(x)
    with plan.applied(model) as same:
        assert same is model
        assert hooks_of(model) > 0
    assert hooks_of(model) == 0
    assert torch.equal(model(x), before)
    with pytest.raises(RuntimeError, match="must match the size"), plan.applied(model):
        model(torch.ones(2, 3))
    assert hooks_of(model) == 0


@pytest.mark.versions
def test_compiled_and_sparse_models():
    model, _, plan = simple()
    with pytest.raises(RuntimeError, match="compiled already"):
        plan.apply(torch.compile(model))
    assert hooks_of(model) == 0


def test_measure_counts_zeros_on_other_batches():
    model, x, plan = simple(held_out=[torch.randn(200, 16)])
    other = torch.randn(300, 16)
    actual = plan.measure(model, [other[:100], other[100:]])
    assert actual["0"] == pytest.approx(float((other.abs() <= plan.thresholds["0"]).float().mean()))
    assert actual != plan.achieved
    assert plan.achieved != plan.measure(model, [x])
    assert plan.achieved_sparsity == pytest.approx(0.5, abs=0.06)
    with pytest.raises(ValueError, match="no batches to measure on"):
        plan.measure(model, [])
    with pytest.raises(TypeError, match="one Tensor: wrap it in a list"):
        plan.measure(model, x)


def test_padding_is_not_measured(llama_plan):
    model, plan = llama_plan
    (padded,) = tiny_models.token_batches(count=1, rows=1)
    start = int((padded["attention_mask"] == 0).sum())
    whole = {"input_ids": padded["input_ids"][:, start:]}
    alone, among = (plan.measure(model, [batch]) for batch in (whole, padded))
    for name, share in alone.items():
        assert among[name] == pytest.approx(share, abs=2e-3)


def test_functions_that_need_the_dense_model_reject_a_simulated_one():
    model, x, plan = simple()
    uses = (
        lambda model: calibrate(model, [x], 0.5, score="weight"),
        lambda model: plan.measure(model, [x]),
        lambda model: compensate(plan, model, [x], rank=2),
        lambda model: tune(plan, model, [x], 1),
    )
    first, second = plan.apply(model), plan.apply(model)
    second.remove()
    for use in uses:
        with pytest.raises(RuntimeError, match="a plan is applied to the model"):
            use(model)
        use(copy.deepcopy(model))  # which has no hook
    first.remove()
    for use in uses:
        use(model)


def test_a_copy_of_a_simulated_model_is_dense():
    model, x, plan = simple()
    dense = model(x)
    with plan.applied(model):
        copied = copy.deepcopy(model)
        sparse = model(x)
    assert torch.equal(copied(x), dense)
    assert hooks_of(copied) == 0
    assert not torch.equal(sparse, dense)


def test_byte_sparsity_is_weighted_by_the_number_of_weights():
    _, _, plan = simple()
    weights = {"0": 16 * 48, "2": 48 * 24, "4": 24 * 5}
    shares = {"0": 0.1, "2": 0.5, "4": 0.9}
    expected = sum(weights[name] * shares[name] for name in weights) / sum(weights.values())
    assert byte_sparsity(plan.sites, shares) == pytest.approx(expected)
    assert math.isnan(byte_sparsity(plan.sites, {}))


def first_tokens(kind, **options):
    model = getattr(tiny_models, kind)()
    batches = [{"input_ids": torch.randint(4, tiny_models.VOCABULARY, (3, 10))} for _ in range(2)]
    return model, calibrate(model, batches, 0.6, score="weight", keep_first=2, **options)


def reads_of(model, name, **inputs):
    """What the layer at `name` gets."""
    seen = []
    handle = model.get_submodule(name).register_forward_hook(
        lambda m, args, y: seen.append(args[0])
    )
    with torch.no_grad():
        model(**inputs)
    handle.remove()
    return seen[-1]


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("side", ["none", "left", "right"])
@pytest.mark.versions
def test_keep_first_leaves_the_first_tokens_dense(kind, side):
    model, plan = first_tokens(kind)
    ids = torch.randint(4, tiny_models.VOCABULARY, (2, 9))
    mask = torch.ones_like(ids)
    if side != "none":
        mask[0, slice(0, 4) if side == "left" else slice(5, 9)] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    if kind == "gpt2":
        inputs["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    site = plan.sites[0].name
    dense = reads_of(model, site, **inputs)
    with plan.applied(model):
        sparse = reads_of(model, site, **inputs)
    position = mask.cumsum(1) - 1
    first, later = (position < 2) & (mask == 1), (position >= 2) & (mask == 1)
    assert torch.equal(sparse[first], dense[first])
    level = plan.thresholds[site]
    assert torch.equal(sparse[later], torch.where(dense[later].abs() > level, dense[later], 0))
    assert (sparse[later] == 0).any()


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.versions
def test_keep_first_with_a_cache_is_as_without(padding):
    model, plan = first_tokens("llama")
    ids = torch.randint(4, tiny_models.VOCABULARY, (2, 6))
    mask = torch.ones_like(ids)
    mask[0, :padding] = 0
    options = {"attention_mask": mask, "max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
    with plan.applied(model), torch.no_grad():
        cached, again = (model.generate(ids, use_cache=use, **options) for use in (True, False))
    dense = model.generate(ids, **options)
    assert torch.equal(cached, again)
    assert not torch.equal(cached, dense)
    # one token at a time: the second is still among the first two, the third is not
    with plan.applied(model), torch.no_grad():
        whole = model(ids).logits
        name = tiny_models.cache_name(model)
        cache = {name: model(ids[:, :1], use_cache=True)[name]}
        later = [model(ids[:, [i]], use_cache=True, **cache) for i in range(1, 6)]
    actual = torch.cat([output.logits for output in later], 1)
    torch.testing.assert_close(actual, whole[:, 1:], rtol=1e-4, atol=1e-5)


def test_first_positions_belong_to_a_thread_and_to_no_copy():
    first = FirstPositions(1)
    first.start(nn.Identity(), (torch.zeros(2, 3, dtype=torch.long),), {})
    seen = []
    thread = threading.Thread(target=lambda: seen.append(first.first))
    thread.start()
    thread.join()
    copies = [copy.deepcopy(first), pickle.loads(pickle.dumps(first))]
    assert [actual.first for actual in copies] == [None, None]
    assert seen == [None]
    assert [actual.keep_first for actual in copies] == [1, 1]
    assert first.first.tolist() == [[True, False, False]] * 2


class Flattening(nn.Module):
    """Reads its tokens as one long list of rows."""

    def __init__(self):
        super().__init__()
        self.embedding, self.layer = nn.Embedding(20, 8), nn.Linear(8, 8)

    def forward(self, ids):
        x = self.embedding(ids)
        return self.layer(x.view(-1, 8)).view_as(x)


@pytest.mark.versions
def test_keep_first_where_tokens_are_flattened():
    model, ids = Flattening(), torch.randint(0, 20, (4, 5))
    plan = calibrate(model, [ids], 0.5, score="weight", keep_first=1)
    dense = model(ids)
    with plan.applied(model):
        sparse = model(ids)
    torch.testing.assert_close(sparse[:, 0], dense[:, 0])
    assert not torch.isclose(sparse[:, 1:], dense[:, 1:]).all(-1).any()
    assert plan.achieved_sparsity == pytest.approx(0.5, abs=0.02)


@pytest.mark.versions
def test_keep_first_in_generate_from_embeddings():
    """Which gives input_ids too, as None."""
    torch.manual_seed(0)
    model = tiny_models.llama()
    batches = tiny_models.token_batches(rows=2)
    plan = calibrate(model, batches, 0.5, score="weight", keep_first=2)
    ids = batches[0]["input_ids"]
    embeddings = model.get_input_embeddings()(ids)
    kwargs = {"max_new_tokens": 4, "do_sample": False}
    with plan.applied(model), torch.no_grad():
        expected = model.generate(ids, **kwargs)[:, ids.shape[1] :]
        actual = model.generate(inputs_embeds=embeddings, **kwargs)
    assert torch.equal(actual, expected)


@pytest.mark.versions
def test_keep_first_in_an_encoder_and_decoder():
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    config = T5Config(vocab_size=61, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
                      decoder_start_token_id=0)  # fmt: skip
    model = tiny_models.spread(T5ForConditionalGeneration(config))
    ids = torch.randint(4, 61, (2, 9))
    batch = {"input_ids": ids, "decoder_input_ids": ids[:, :5]}
    plan = calibrate(model, [batch], 0.5, score="weight", keep_first=1)
    whole = FirstPositions(1)
    with plan.applied(model):
        assert model.generate(ids, max_new_tokens=4).shape[0] == 2
    encoded = {"encoder_outputs": (torch.randn(2, 9, 32),), "attention_mask": torch.ones(2, 9)}
    whole.start(model, (), {**encoded, "decoder_input_ids": ids[:, :1]})
    assert whole.first.tolist() == [[True], [True]]


@pytest.mark.versions
def test_keep_first_with_a_cache_that_counts_nothing():
    torch.manual_seed(0)
    model = tiny_models.mamba()
    ids = torch.randint(4, 61, (2, 9))
    plan = calibrate(model, [{"input_ids": ids}], 0.6, score="weight", keep_first=1)
    zeros = []
    reader = model.get_submodule(plan.sites[0].name)
    with plan.applied(model):
        handle = reader.register_forward_pre_hook(lambda _, args: zeros.append(args[0] == 0))
        model.generate(ids, max_new_tokens=3, do_sample=False)
        handle.remove()
    assert not zeros[0][:, 0].any()
    assert zeros[0][:, 1:].any()
    assert all(actual.any() for actual in zeros[1:])


@pytest.mark.parametrize("keep_first", [0, 1])
def test_models_that_have_the_length_first(keep_first):
    class LengthFirst(nn.Module):
        def __init__(self, swapped):
            super().__init__()
            self.embed, self.linear = nn.Embedding(30, 8), nn.Linear(8, 5)
            self.swapped = swapped

        def forward(self, input_ids, attention_mask):
            x = self.embed(input_ids)
            return (
                self.linear(x.transpose(0, 1)).transpose(0, 1) if self.swapped else self.linear(x)
            )

    torch.manual_seed(0)
    models = [LengthFirst(False), LengthFirst(True)]
    models[1].load_state_dict(models[0].state_dict())
    ids, mask = torch.randint(30, (3, 7)), torch.ones(3, 7, dtype=torch.long)
    mask[1, 3:] = mask[2, 5:] = 0
    batch = {"input_ids": ids, "attention_mask": mask}
    one, other = (
        calibrate(model, [batch], 0.5, score="weight", keep_first=keep_first) for model in models
    )
    torch.testing.assert_close(one.thresholds["linear"], other.thresholds["linear"])
    assert one.achieved == other.achieved
    outputs = []
    for model, plan in zip(models, (one, other), strict=True):
        with plan.applied(model), torch.no_grad():
            outputs.append(model(**batch))
    torch.testing.assert_close(*outputs)


@pytest.mark.parametrize("x", [torch.randn(20, 16), torch.randn(2, 3, 4, 16)], ids=["2", "4"])
@pytest.mark.versions
def test_keep_first_without_sequences(x):
    model = tiny_models.mlp()
    with pytest.raises(ValueError, match="keep_first= needs a model that reads sequences"):
        calibrate(model, [x], score="weight", keep_first=1)
    assert hooks_of(model) == 0


@pytest.mark.parametrize("score", ["loss", "weight"])
@pytest.mark.versions
def test_keep_first_of_all_tokens(score):
    model = tiny_models.gpt2()
    with pytest.raises(ValueError, match=r"no token counts: all are .* the first 9"):
        calibrate(model, [torch.randint(0, 9, (2, 9))], score=score, keep_first=9)
    nothing = {"input_ids": torch.ones(1, 4, dtype=torch.long), "attention_mask": torch.zeros(1, 4)}
    with pytest.raises(ValueError, match=r"all are padding$"):
        calibrate(model, [nothing], score=score)
