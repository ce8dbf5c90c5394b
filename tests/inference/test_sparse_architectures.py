"""Causal language models of transformers, small: the sparse model computes the simulated one.

Some run in the suite, all with `make test-architectures`.
"""

import dataclasses

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

import tiny_models
from sparsact.calibration import calibrate
from sparsact.inference import sparsify

SIZES = {
    **{"vocab_size": 96, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
    **{"hidden_size": 32, "n_embd": 32, "d_model": 32, "word_embed_proj_dim": 32},
    **{"intermediate_size": 48, "ffn_dim": 48, "moe_intermediate_size": 16},
    **{"num_hidden_layers": 2, "n_layer": 2, "n_layers": 2},
    **{"num_attention_heads": 4, "n_head": 4, "n_heads": 4},
    **{"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "n_positions": 64},
    **{"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "n_routed_experts": 4},
}
"""What these models call their sizes; each takes those that it knows."""

IN_SUITE = ["bert", "falcon", "gemma2", "gpt_neox", "llama", "mixtral"]
OTHERS = [
    *("afmoe", "apertus", "arcee", "aria_text", "biogpt", "bitnet", "bloom", "camembert"),
    *("cohere", "cohere2", "cwm", "diffllama", "doge", "electra", "ernie4_5", "ernie4_5_moe"),
    *("exaone4", "flex_olmo", "gemma", "gemma3_text", "glm", "glm4", "glm4_moe", "gpt-sw3"),
    *("gpt2", "gpt_bigcode", "gpt_neox_japanese", "gpt_oss", "granite", "granitemoe", "helium"),
    *("hunyuan_v1_dense", "jetmoe", "lfm2", "llama4_text", "megatron-bert", "minimax", "mistral"),
    *("olmo2", "opt", "phi", "phi3", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "roberta"),
    *("smollm3", "stablelm", "starcoder2"),
]
MARKED = [(kind, dtype) for kind in OTHERS for dtype in ("float32", "bfloat16", "int8")]
MARKED += [(kind, "bfloat16") for kind in IN_SUITE]
CASES = [(kind, dtype) for kind in IN_SUITE for dtype in ("float32", "int8")]
CASES += [pytest.param(*case, marks=pytest.mark.architectures) for case in MARKED]


def small(kind):
    """A model of a kind, with weights of usual size."""
    if kind not in CONFIG_MAPPING:
        pytest.skip(f"this version of transformers has no {kind}")
    config = CONFIG_MAPPING[kind]
    names = {field.name for field in dataclasses.fields(config)} | {*config.attribute_map}
    chosen = {name: size for name, size in SIZES.items() if name in names}
    return tiny_models.spread(AutoModelForCausalLM.from_config(config(**chosen)))


def planned(kind):
    model, inputs = small(kind), {"input_ids": torch.randint(3, 90, (2, 12))}
    return model, calibrate(model, [inputs], 0.5, score="magnitude", allocate="uniform"), inputs


def simulated(model, plan, inputs):
    """The plan's thresholds on a model with rounded weights, which the plan is not for."""
    loose = dataclasses.replace(plan, samples={}, others={})
    with loose.applied(model), torch.no_grad():
        return model(**inputs).logits


@pytest.mark.parametrize(("kind", "dtype"), CASES)
def test_logits_are_those_of_the_simulation(kind, dtype, tmp_path):
    """And those of the saved model are the same bits; transformers' own methods change nothing."""
    model, plan, inputs = planned(kind)
    sparse = sparsify(model, plan, dtype)
    with torch.no_grad():
        actual = sparse(**inputs).logits
        sparse.tie_weights()
        sparse.post_init()
        assert torch.equal(sparse(**inputs).logits, actual)
    sparse.save_pretrained(tmp_path)
    loaded, info = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, actual)
    expected = simulated(sparse.dequantize(), plan, inputs)
    assert (actual - expected).norm() < 1e-4 * expected.norm()
