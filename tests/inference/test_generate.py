"""The compiled step of a token against the modules of transformers, which it replaces."""

import copy
import warnings

import pytest
import torch
from torch import nn

import sparsact as sa
import tiny_models
from sparsact.inference.dense_crossing import Crossings, use_crossings
from sparsact.inference.fused_decoder import LayerByLayerWarning, fused_decoder
from sparsact.inference.generation import draw
from sparsact.kernels.cpu import library

needs_kernels = pytest.mark.skipif(library.PATH is None, reason="needs the compiled kernels")

GROUPED = {"num_key_value_heads": 2}
WINDOW = {"sliding_window": 5}
KINDS = {
    "llama": ("Llama", GROUPED),
    "llama-scaled": ("Llama", {"attention_bias": True, "rope_parameters": {
        "rope_type": "llama3", "rope_theta": 100.0, "factor": 4.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 16}}),
    "odd-sizes": ("Llama", {"hidden_size": 36, "intermediate_size": 77, "num_attention_heads": 3,
                            "num_key_value_heads": 1, "tie_word_embeddings": True}),
    "mistral": ("Mistral", GROUPED | WINDOW),
    "qwen2": ("Qwen2", GROUPED | WINDOW | {"use_sliding_window": True, "max_window_layers": 1}),
    "qwen3": ("Qwen3", GROUPED | {"head_dim": 16}),
    "phi3": ("Phi3", GROUPED | {"partial_rotary_factor": 0.5}),
    "gemma2": ("Gemma2", GROUPED | WINDOW | {"head_dim": 8, "attn_logit_softcapping": 2.0,
                                             "final_logit_softcapping": 3.0}),
    "gemma3": ("Gemma3", GROUPED | WINDOW | {"head_dim": 8, "layer_types": [
        "sliding_attention", "full_attention"]}),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _skipping():
    with use_crossings(Crossings(lambda *functions: [0.0] * len(functions))):
        yield


def tiny(kind, **changes):
    import transformers

    name, own = KINDS[kind]
    config = {"Gemma3": "Gemma3TextConfig"}.get(name, f"{name}Config")
    sizes = {**tiny_models.SIZES, **tiny_models.SPECIAL, "vocab_size": tiny_models.VOCABULARY}
    settings = getattr(transformers, config)(**{**sizes, **own, **changes})
    model = tiny_models.spread(getattr(transformers, f"{name}ForCausalLM")(settings))
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data += 0.3 * torch.randn_like(parameter)
    return model


def sparse(model, dtype="float32", sparsity=0.5, **options):
    batches = tiny_models.token_batches()
    plan = sa.calibrate(model, batches, sparsity, score="weight", **options)
    return sa.sparsify(model, plan, dtype)


def ids_of(length):
    return torch.randint(3, tiny_models.VOCABULARY, (1, length))


def step_logits(model, ids):
    session = fused_decoder(model).session(model, ids.shape[1])
    return torch.stack([session.append(int(token)).clone() for token in ids[0]])


def assert_same_logits(model, ids):
    with torch.inference_mode():
        expected = model(input_ids=ids).logits[0].float()
        torch.testing.assert_close(step_logits(model, ids), expected, rtol=0, atol=1e-4)


def greedy(model, ids, count):
    """Of transformers, which samples only what it is told to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.generate(ids, max_new_tokens=count, do_sample=False, eos_token_id=None)


@needs_kernels
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [None, "float32", "bfloat16", "int8", "int4"])
def test_logits_equal_those_of_the_modules(kind, dtype):
    model = tiny(kind)
    assert_same_logits(sparse(model, dtype) if dtype else model, ids_of(13))


@needs_kernels
@pytest.mark.parametrize("kind", KINDS)
def test_tokens_equal_those_of_transformers(kind):
    model, ids = sparse(tiny(kind), "int8"), ids_of(7)
    assert torch.equal(sa.generate(model, ids, 12, eos_token_id=()), greedy(model, ids, 12))


@needs_kernels
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_do_not_change_the_logits(threads):
    model, ids = sparse(tiny("llama")), ids_of(6)
    before, expected = torch.get_num_threads(), step_logits(model, ids)
    try:
        torch.set_num_threads(threads)
        torch.testing.assert_close(step_logits(model, ids), expected, rtol=1e-5, atol=1e-6)
    finally:
        torch.set_num_threads(before)


@needs_kernels
@pytest.mark.parametrize("length", [1, 2, 6])
def test_first_tokens_stay_dense(length):
    model = sparse(tiny("llama"), keep_first=4)
    assert_same_logits(model, ids_of(9))
    ids = ids_of(length)
    assert torch.equal(sa.generate(model, ids, 8, eos_token_id=()), greedy(model, ids, 8))


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma2"])
def test_half_precision_models_are_computed_in_float32(kind, dtype):
    wide = tiny(kind).to(dtype).float()  # weights that both dtypes hold
    narrow = copy.deepcopy(wide).to(dtype)
    ids = ids_of(9)
    with torch.inference_mode():
        expected = sparse(wide, "int8", 0.0)(input_ids=ids).logits[0]
    actual = step_logits(sparse(narrow, "int8", 0.0), ids)
    assert (actual - expected).norm() < 2e-2 * expected.norm()


@needs_kernels
def test_a_model_that_changed_is_read_again():
    model, ids = tiny("llama"), ids_of(5)
    step_logits(model, ids)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight.mul_(2)
        model.model.norm.weight = nn.Parameter(2 * model.model.norm.weight)
    assert_same_logits(model, ids)


@needs_kernels
@pytest.mark.parametrize("part", ["", "model", "model.layers.1", "model.norm", "lm_head"])
def test_a_hook_that_comes_later_is_not_left_out(part):
    model, ids = tiny("llama"), ids_of(5)
    before = sa.generate(model, ids, 6, eos_token_id=())
    model(input_ids=ids, output_hidden_states=True)  # transformers may install hooks of its own
    assert torch.equal(sa.generate(model, ids, 6, eos_token_id=()), before)
    calls = []
    handle = model.get_submodule(part).register_forward_hook(lambda *_: calls.append(1))
    with pytest.warns(LayerByLayerWarning, match="hooks"):
        sa.generate(model, ids, 6, eos_token_id=())
    assert len(calls) == 6
    handle.remove()
    assert torch.equal(sa.generate(model, ids, 6, eos_token_id=()), before)
    assert len(calls) == 6


@needs_kernels
def test_a_module_replaced_later_is_used():
    model, ids = tiny("llama"), ids_of(5)
    step_logits(model, ids)
    model.model.layers[0].mlp.act_fn = nn.GELU("tanh")
    with pytest.warns(LayerByLayerWarning, match="computes something else"):
        assert fused_decoder(model) is None
    model.model.layers[1].mlp.act_fn = nn.GELU("tanh")
    assert_same_logits(model, ids)


def test_a_model_without_a_cache_is_refused():
    with (
        pytest.warns(LayerByLayerWarning),
        pytest.raises(ValueError, match="MambaForCausalLM keeps no past_key_values"),
    ):
        sa.generate(tiny_models.mamba(), ids_of(3), 2)


def in_training():
    model = tiny("llama")
    model.model.layers[0].train()
    return model.train()


def other_activation():
    return tiny("llama", hidden_act="relu")


def other_rotation():
    rope = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    return tiny("llama", rope_parameters=rope)


def without_rotation_in_one_block():
    import transformers

    sizes = {**tiny_models.SIZES, **tiny_models.SPECIAL, "vocab_size": tiny_models.VOCABULARY}
    settings = transformers.SmolLM3Config(**sizes, no_rope_layers=[1, 0])
    return tiny_models.spread(transformers.SmolLM3ForCausalLM(settings))


def hooked():
    model = tiny("llama")
    model.model.layers[0].mlp.register_forward_hook(lambda module, args, output: 2 * output)
    return model


def patched():
    model = tiny("llama")
    mlp = model.model.layers[1].mlp
    forward = mlp.forward
    mlp.forward = lambda x: 2 * forward(x)
    return model


def partly_sparse():
    return sparse(tiny("llama"), exclude=["*v_proj"])


def float16():
    return tiny("llama").half()


ELSEWHERE = [
    other_activation, other_rotation, without_rotation_in_one_block, hooked, patched,
    partly_sparse, float16, in_training, tiny_models.gpt2,
]  # fmt: skip


@needs_kernels
@pytest.mark.parametrize("make", ELSEWHERE, ids=lambda make: make.__name__)
def test_other_models_run_layer_by_layer(make):
    model, ids = make(), ids_of(5)
    with pytest.warns(LayerByLayerWarning, match=f"^{type(model).__name__} runs layer by layer"):
        tokens = sa.generate(model, ids, 6, eos_token_id=())
    assert torch.equal(tokens, greedy(model, ids, 6))
    assert torch.equal(sa.generate(model, ids, 6, eos_token_id=()), tokens)  # said once


@pytest.mark.parametrize("make", [lambda: tiny("llama"), tiny_models.llama])
def test_the_end_token_ends_the_text(make):
    model, ids = make(), ids_of(4)
    tokens = sa.generate(model, ids, 8, eos_token_id=())[0].tolist()
    last = next(place for place in range(5, 12) if tokens[place] not in tokens[4:place])
    for ends in (tokens[last], [tokens[last]]):
        assert sa.generate(model, ids, 8, eos_token_id=ends)[0].tolist() == tokens[: last + 1]
    model.generation_config.eos_token_id = tokens[last]
    assert sa.generate(model, ids[0], 8)[0].tolist() == tokens[: last + 1]
    assert torch.equal(sa.generate(model, ids, 0), ids)


def test_draws_follow_the_probabilities():
    logits, generator = torch.tensor([1.0, 3.0, 2.0, -1.0]), torch.Generator().manual_seed(0)
    draws = torch.tensor([draw(logits, 2.0, 1.0, generator) for _ in range(4000)])
    expected = torch.softmax(logits / 2, 0)
    torch.testing.assert_close(draws.bincount(minlength=4) / 4000, expected, atol=0.03, rtol=0)


@pytest.mark.parametrize(("top_p", "kept"), [(1e-6, {1}), (0.6, {1}), (0.7, {1, 2}), (0.89, {1, 2}),
                                             (0.95, {0, 1, 2})])  # fmt: skip
def test_top_p_keeps_the_fewest_tokens_that_reach_it(top_p, kept):
    logits, generator = torch.tensor([1.0, 3.0, 2.0, -1.0]), torch.Generator().manual_seed(0)
    assert {draw(logits, 1.0, top_p, generator) for _ in range(300)} == kept


def test_sampling_repeats_with_its_seed():
    model, ids = tiny("llama"), ids_of(4)

    def sampled(seed):
        generator = torch.Generator().manual_seed(seed)
        return sa.generate(model, ids, 20, temperature=2.0, top_p=0.9, generator=generator)

    assert torch.equal(sampled(1), sampled(1))
    assert not torch.equal(sampled(1), sampled(2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_ids": torch.ones(2, 3, dtype=torch.int64)}, "input_ids= must be one sequence"),
        ({"input_ids": torch.ones(1, 0, dtype=torch.int64)}, "input_ids= must be one sequence"),
        ({"input_ids": torch.ones(1, 3)}, "input_ids= must be one sequence"),
        ({"max_new_tokens": -1}, "max_new_tokens="),
        ({"temperature": -0.5}, "temperature="),
        ({"temperature": float("nan")}, "temperature="),
        ({"top_p": 0.0}, "top_p="),
        ({"top_p": 1.1}, "top_p="),
    ],
)
def test_wrong_arguments(changes, message):
    arguments = {"input_ids": ids_of(3), "max_new_tokens": 2, **changes}
    with pytest.raises(ValueError, match=message):
        sa.generate(nn.Identity(), **arguments)


@needs_kernels
def test_a_full_cache_is_refused():
    model = tiny("llama")
    session = fused_decoder(model).session(model, 1)
    session.append(3)
    with pytest.raises(IndexError, match="position 1 of a cache of 1"):
        session.append(3)
