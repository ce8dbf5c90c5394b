import copy
import dataclasses
import gc
import threading
import weakref

import pytest
import torch
from torch import nn

import tiny_models
from sparsact.calibration import calibrate
from sparsact.calibration.sites import weight_t
from sparsact.inference import SparseLinear, sparsify
from sparsact.inference.dense_crossing import Crossings, use_crossings
from sparsact.inference.int4_weights import quantise
from sparsact.inference.rms_norm import RMSNorm
from sparsact.kernels.reference.int4 import unpack

DTYPES = ["float32", "bfloat16", "int8", "int4"]
KINDS = ["llama", "gpt2"]


@pytest.fixture(autouse=True, params=["skipping", "dense"])
def _way(request):
    """Every test runs with skipping layers and with dense ones."""
    most = 10**6 if request.param == "skipping" else -1

    class Fixed(Crossings):
        def inputs_at_most(self, *_):
            return most

    with use_crossings(Fixed()):
        yield


def planned(kind, sparsity=0.5, *, keep_first=0, **changes):
    model = getattr(tiny_models, kind)(**changes)
    plan = calibrate(
        model, tiny_models.token_batches(), sparsity, score="weight", keep_first=keep_first
    )
    return model, plan


def rounded(model, plan, dtype):
    """A copy whose weights are what is stored: the plan's in `dtype`, and the head's."""
    model = copy.deepcopy(model)
    last = model.get_output_embeddings()
    last.weight = nn.Parameter(last.weight.detach().clone())  # the embedding keeps its own
    layers = [model.get_submodule(name) for site in plan.sites for name in site.readers]
    for layer in [*layers, last]:
        weight = weight_t(layer)
        if dtype == "bfloat16":
            weight.copy_(weight.bfloat16())
        elif dtype == "int8":
            step = weight.abs().amax(0) / 127
            weight.copy_((weight / step).round() * step)
        elif dtype == "int4":
            packed, scale = quantise(weight)
            weight.copy_(unpack(packed, len(scale)) * scale)
    return model


def simulated(model, plan, **inputs):
    plan = dataclasses.replace(plan, samples={}, others={})  # rounded weights are another model's
    with plan.applied(model), torch.no_grad():
        return model(**inputs)


def inputs_of(rows, length, padding=0):
    ids = torch.randint(4, tiny_models.VOCABULARY, (rows, length))
    mask = torch.ones_like(ids)
    mask[0, :padding] = 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "length", "padding"), [(1, 5, 0), (3, 7, 4), (2, 50, 9)], ids=str)
def test_logits_equal_the_simulation(kind, dtype, rows, length, padding):
    model, plan = planned(kind)
    inputs = inputs_of(rows, length, padding)
    expected = simulated(rounded(model, plan, dtype), plan, **inputs).logits
    actual = sparsify(model, plan, dtype)(**inputs).logits
    read = inputs["attention_mask"].bool()
    torch.testing.assert_close(actual[read], expected[read], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_logits_equal_those_of_rounded_weights(dtype):
    model, plan = planned("llama", 0.0)  # no threshold whose side rounding could change
    inputs = inputs_of(2, 9)
    dense = model(**inputs).logits
    actual = sparsify(model, plan, dtype)(**inputs).logits
    # one product is off by at most the largest relative error of a weight against its row's norm:
    # half a step (2^-9, or 1/254 of the largest weight, here less than 5 times the rms), and 15
    # products follow one another
    step = {"bfloat16": 2**-9, "int8": 5 / 254}[dtype]
    assert (actual - dense).norm() < 15 * step * dense.norm()
    assert not torch.equal(actual, dense)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keep_first", [0, 2])
def test_decoding_with_a_cache_equals_the_simulation(kind, keep_first):
    model, plan = planned(kind, keep_first=keep_first)
    inputs = inputs_of(2, 8, padding=3)
    if kind == "gpt2":
        inputs = {"input_ids": inputs["input_ids"]}
    options = {"max_new_tokens": 8, "do_sample": False, "min_new_tokens": 8}
    options |= {"output_scores": True, "return_dict_in_generate": True}
    with plan.applied(model):
        expected = model.generate(**inputs, **options)
    actual = sparsify(model, plan, "float32").generate(**inputs, **options)
    assert torch.equal(actual.sequences, expected.sequences)
    for mine, theirs in zip(actual.scores, expected.scores, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_saved_weights_load_into_the_stock_class(dtype, tied, tmp_path):
    model, plan = planned("llama", tie_word_embeddings=tied)
    expected = rounded(model, plan, dtype).state_dict()  # a rounded head is tied no more
    names = set(expected)
    sparse = sparsify(model, plan, dtype)
    assert set(sparse.state_dict()) == names
    sparse.dequantize().save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert not any(isinstance(module, SparseLinear) for module in loaded.modules())
    for name, tensor in loaded.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-6, atol=1e-7, msg=name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.versions
def test_a_dense_checkpoint_loads(kind):
    model, plan = planned(kind)
    other = getattr(tiny_models, kind)()
    inputs = inputs_of(2, 6)
    expected = simulated_by_hand(other, plan, **inputs)
    sparse = sparsify(model, plan, "float32")
    assert sparse.load_state_dict(other.state_dict()) == ([], [])
    torch.testing.assert_close(sparse(**inputs).logits, expected, rtol=1e-5, atol=1e-5)


def simulated_by_hand(model, plan, **inputs):
    """The plan's thresholds on a model that the plan is not for."""
    handles = []
    for site in plan.sites:
        level = plan.thresholds[site.name]
        for name in site.readers:
            handles.append(
                model.get_submodule(name).register_forward_pre_hook(
                    lambda module, args, level=level: torch.where(args[0].abs() > level, args[0], 0)
                )
            )
    with torch.no_grad():
        output = model(**inputs).logits
    for handle in handles:
        handle.remove()
    return output


def test_old_weights_are_freed():
    model, plan = planned("llama")
    old = [
        weakref.ref(model.get_submodule(name).weight)
        for site in plan.sites
        for name in site.readers
    ]
    old.append(weakref.ref(model.lm_head.weight))
    sparsify(model, plan)
    gc.collect()
    assert all(reference() is None for reference in old)


def live_bytes(work):
    """The most memory that was held at a time while `work` ran, and what it holds at its end."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        kept = work()
    held, most = 0, 0
    events = profile.profiler.kineto_results.events()
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most, held, kept


@pytest.mark.parametrize("dtype", DTYPES)
def test_memory_never_holds_both(dtype):
    widths = [256] * 41
    template = tiny_models.mlp(*widths)
    plan = calibrate(template, [torch.randn(4, 256)], 0.5, score="weight")
    states = template.state_dict()

    def dense():
        model = tiny_models.mlp(*widths)
        model.load_state_dict(states)
        return model

    whole, _, _ = live_bytes(dense)
    assert whole >= 40 * 256 * 256 * 4
    most, after, kept = live_bytes(lambda: sparsify(dense(), plan, dtype))
    assert most <= 1.15 * whole
    share = {"float32": 1, "bfloat16": 1 / 2, "int8": 1 / 4, "int4": 5 / 32}[dtype]
    assert after <= (share + 0.05) * whole
    assert len(kept) == 79


def test_a_copy_computes_the_same():
    model, plan = planned("llama", keep_first=1)
    inputs = inputs_of(2, 6)
    sparse = sparsify(model, plan)
    copied = copy.deepcopy(sparse)
    expected = sparse(**inputs).logits
    del sparse
    assert torch.equal(copied(**inputs).logits, expected)
    assert torch.equal(copy.deepcopy(copied)(**inputs).logits, expected)


@pytest.mark.parametrize("keep_first", [0, 2])
def test_two_threads(keep_first):
    model, plan = planned("llama", keep_first=keep_first)
    sparse = sparsify(model, plan, "float32")
    inputs_by_thread = [inputs_of(2, 6) for _ in range(2)]
    expected = [sparse(**inputs).logits for inputs in inputs_by_thread]
    wrong = []

    def work(place):
        for _ in range(15):
            with torch.no_grad():
                actual = sparse(**inputs_by_thread[place]).logits
            if not torch.allclose(actual, expected[place], rtol=1e-5, atol=1e-5):
                wrong.append(place)

    threads = [threading.Thread(target=work, args=(place,)) for place in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.versions
def test_compiles_in_one_graph():
    model, x = tiny_models.mlp(), torch.randn(4, 16)
    plan = calibrate(model, [x], 0.4, score="weight")
    sparse = sparsify(model, plan, "float32")
    torch.testing.assert_close(torch.compile(sparse, fullgraph=True)(x), sparse(x))


@pytest.mark.versions
def test_compiled_layers_of_a_site_compute_together():
    model, plan = planned("llama")
    sparse, inputs, calls = sparsify(model, plan, "float32"), inputs_of(2, 5), []

    def counted(graph, _):
        calls.extend(node for node in graph.graph.nodes if "gather_linear" in str(node.target))
        return graph.forward

    actual = torch.compile(sparse, backend=counted)(**inputs).logits
    torch.testing.assert_close(actual, sparse(**inputs).logits)
    assert len(calls) == len(plan.sites)


def test_norms_are_swapped_and_keep_their_names():
    model, plan = planned("llama")
    names = set(model.state_dict())
    sparse = sparsify(model, plan, "float32")
    assert isinstance(sparse.model.norm, RMSNorm)
    assert sum(isinstance(module, RMSNorm) for module in sparse.modules()) == 5
    assert set(sparse.state_dict()) == names


def test_bfloat16_activations():
    model, plan = planned("llama")
    model.bfloat16()
    inputs = inputs_of(2, 6)
    expected = simulated(model, plan, **inputs).logits
    actual = sparsify(model, plan)(**inputs).logits
    assert actual.dtype == torch.bfloat16
    assert (actual - expected).float().norm() < 0.02 * expected.float().norm()


@pytest.mark.parametrize("keep_first", [0, 2])
@pytest.mark.parametrize("x_dtype", [torch.float16, torch.float64], ids=str)
def test_activations_of_other_dtypes(x_dtype, keep_first):
    model, plan = planned("llama", keep_first=keep_first)
    model.to(x_dtype)
    inputs = inputs_of(2, 6)
    options = {"max_new_tokens": 6, "do_sample": False, "min_new_tokens": 6}
    options |= {"output_logits": True, "return_dict_in_generate": True}
    with plan.applied(model):
        expected = model.generate(**inputs, **options)
    actual = sparsify(model, plan, "float32").generate(**inputs, **options)
    assert torch.equal(actual.sequences, expected.sequences)
    rounding = max(torch.finfo(x_dtype).eps, torch.finfo(torch.float32).eps)
    for mine, theirs in zip(actual.logits, expected.logits, strict=True):
        assert mine.dtype == theirs.dtype
        assert (mine - theirs).norm() < 20 * rounding * theirs.norm()


def test_head():
    model, plan = planned("llama")
    dense = copy.deepcopy(model)
    assert isinstance(sparsify(copy.deepcopy(model), plan, "int8").lm_head, SparseLinear)
    assert sparsify(copy.deepcopy(model), plan, "int8").lm_head.weight_t.dtype == torch.int8
    for sparse in (
        sparsify(copy.deepcopy(model), plan, head=False),
        sparsify(model, plan, "float32"),
    ):
        assert type(sparse.lm_head) is nn.Linear
        assert torch.equal(sparse.lm_head.weight, dense.lm_head.weight)


def test_a_tied_embedding_keeps_its_weight():
    model, plan = planned("llama", tie_word_embeddings=True)
    before = model.model.embed_tokens.weight.detach().clone()
    sparse = sparsify(model, plan)
    assert torch.equal(sparse.model.embed_tokens.weight, before)
    assert sparse.lm_head.weight.dtype == torch.bfloat16


def test_a_tied_head_that_has_the_dtype_is_not_copied():
    model, plan = planned("llama", tie_word_embeddings=True)
    model.bfloat16()
    inputs = inputs_of(2, 6)
    expected = simulated(model, plan, **inputs).logits
    sparse = sparsify(model, plan, "bfloat16")
    assert sparse.lm_head.weight is sparse.model.embed_tokens.weight
    actual = sparse(**inputs).logits
    assert (actual - expected).float().norm() < 0.02 * expected.float().norm()
    untied, plan = planned("llama")
    assert isinstance(sparsify(untied.bfloat16(), plan).lm_head, SparseLinear)


@pytest.mark.parametrize("apart", [False, True])
def test_a_layer_with_two_names(apart):
    shared, x = nn.Linear(6, 6), torch.randn(5, 6)
    ends = [nn.Sequential(shared), nn.Sequential(shared)] if apart else [shared, shared]
    model = nn.Sequential(ends[0], nn.ReLU(), ends[1])
    plan = calibrate(model, [x], 0.4, score="weight")
    with plan.applied(model), torch.no_grad():
        expected = model(x)
    sparse = sparsify(model, plan, "float32")
    torch.testing.assert_close(sparse(x), expected)
    assert not any(isinstance(module, nn.Linear) for module in sparse.modules())
    assert len(list(sparse.named_parameters())) == 0


@pytest.mark.parametrize("padded", [False, True])
def test_an_encoder_of_torch(padded):
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model, x = nn.TransformerEncoder(layer, 2).eval(), torch.randn(3, 6, 16)
    plan = calibrate(model, [x], 0.5, score="weight")
    mask = torch.zeros(3, 6, dtype=torch.bool)
    mask[0, 4:] = padded
    dense = copy.deepcopy(model)
    dense.use_nested_tensor = False
    with plan.applied(dense), torch.no_grad():
        expected = dense(x, src_key_padding_mask=mask)
    sparse = sparsify(model, plan, "float32")
    with torch.no_grad():
        actual = sparse(x, src_key_padding_mask=mask)
    torch.testing.assert_close(actual[~mask], expected[~mask])


def types_of(model):
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    flags = [parameter.requires_grad for parameter in model.parameters()]
    return [type(module) for module in model.modules()], hooks, flags, model.training


def test_a_plan_for_another_model_changes_nothing():
    model, _ = planned("llama")
    model.train()
    before = types_of(model)
    for other in KINDS:
        _, plan = planned(other, keep_first=1)
        with pytest.raises(ValueError, match="the plan is for another model"):
            sparsify(model, plan)
        assert types_of(model) == before


def test_wrong_use():
    model, plan = planned("llama")
    before = types_of(model)
    with pytest.raises(ValueError, match="float32, bfloat16, int8, int4; got 'float16'"):
        sparsify(model, plan, "float16")
    with pytest.raises(RuntimeError, match="compiled already"):
        sparsify(torch.compile(model), plan)
    with pytest.raises(TypeError, match=r"got a str: read it with ThresholdPlan\.load"):
        sparsify(model, "plan")
    assert types_of(model) == before
    sparsify(model, plan)
    with pytest.raises(ValueError, match="is a SparseLinear: is this model sparse already"):
        sparsify(model, plan)
    linear, x = nn.Linear(6, 4), torch.randn(20, 6)
    plan = calibrate(linear, [x], 0.5, score="weight")
    with pytest.raises(ValueError, match=r"wrap it in nn\.Sequential"):
        sparsify(linear, plan)


def test_a_gradient_is_refused():
    model, x = tiny_models.mlp(), torch.randn(4, 16)
    sparse = sparsify(model, calibrate(model, [x], 0.4, score="weight"))
    assert not sparse.training
    with pytest.raises(RuntimeError, match="for inference"):
        sparse(x.requires_grad_())
