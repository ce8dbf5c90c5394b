"""What share of a token's bytes a plan's sites are."""

import pytest
import torch
from transformers import MixtralConfig, MixtralForCausalLM

import tiny_models
from sparsact.calibration import calibrate
from sparsact.calibration.sites import weight_t
from sparsact.evaluation.weight_bytes import coverage_line, share_of_sites


def mixtral():
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    sizes |= {"vocab_size": tiny_models.VOCABULARY, "num_attention_heads": 4}
    return MixtralForCausalLM(MixtralConfig(**sizes, num_key_value_heads=2)).eval()


@pytest.mark.parametrize("build", [tiny_models.llama, mixtral])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_share_is_that_of_the_parameters(build, dtype):
    model = build()
    sites = calibrate(model, tiny_models.token_batches(), 0.5, score="weight").sites
    model = model.to(dtype)
    readers = {reader for site in sites for reader in site.readers}
    own = sum(weight_t(model.get_submodule(name)).numel() for name in readers)
    embedding = model.get_input_embeddings().weight.numel()
    read = sum(parameter.numel() for parameter in model.parameters()) - embedding
    # buffers, such as frequencies of rotations, are read too, and are small
    assert share_of_sites(model, sites) == pytest.approx(own / read, rel=0.01)
    line = coverage_line(model, sites)
    assert f"{share_of_sites(model, sites):.0%} of what a dense token reads" in line
    assert ("experts" in line) == (build is mixtral)
