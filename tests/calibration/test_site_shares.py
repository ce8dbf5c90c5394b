"""A sparsity for each pattern of layers."""

import pytest
import torch
from torch import nn

import tiny_models
from sparsact.calibration import calibrate
from sparsact.calibration.allocations import ALLOCATIONS
from sparsact.calibration.measured_sparsity import byte_sparsity

PATTERNS = {"*.mlp.*": 0.6, "*.self_attn.*": 0.3}


@pytest.mark.parametrize("allocate", list(ALLOCATIONS))
def test_each_pattern_reaches_its_sparsity(allocate):
    model, batches = tiny_models.llama(), tiny_models.token_batches()
    plan = calibrate(model, batches, PATTERNS, score="weight", allocate=allocate)
    for glob, share in PATTERNS.items():
        sites = [site for site in plan.sites if glob.strip("*") in site.name]
        assert len(sites) == 4
        assert byte_sparsity(sites, plan.achieved) == pytest.approx(share, abs=0.02)
    weights = {
        name: sum(s.weights for s in plan.sites if name in s.name) for name in ("mlp", "attn")
    }
    mean = (0.6 * weights["mlp"] + 0.3 * weights["attn"]) / sum(weights.values())
    assert plan.sparsity == pytest.approx(mean)


def test_one_pattern_for_all_is_the_number():
    model, batches = tiny_models.llama(), tiny_models.token_batches()
    expected = calibrate(model, batches, 0.4, score="weight")
    actual = calibrate(model, batches, {"*": 0.4}, score="weight")
    for name, level in expected.thresholds.items():
        assert torch.equal(actual.thresholds[name], level)


def test_the_first_pattern_counts_and_other_sites_stay_dense():
    model = tiny_models.mlp(8, 8, 8, 8)
    batches = [torch.randn(64, 8)]
    plan = calibrate(model, batches, {"2": 0.0, "[24]": 0.5}, score="magnitude")
    exact = {name for name, level in plan.thresholds.items() if not level.any()}
    assert exact == {"0", "2"}
    assert plan.achieved["4"] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("sparsity", "message"),
    [
        ({"*.mlp.*": 0.6, "*nothing*": 0.3}, r"sparsity= has the pattern '\*nothing\*'"),
        ({"*": 0.6, "*.mlp.*": 0.3}, r"pattern '\*.mlp.\*', which decides for no layer"),
        ({"*.q_proj": 0.6}, "layers that read the same tensor different shares"),
        ({"*": 1.0}, r"sparsity must be in \[0, 1\)"),
        ({"*": -0.1}, r"sparsity must be in \[0, 1\)"),
        ({"*": float("nan")}, r"sparsity must be in \[0, 1\)"),
        ({}, "sparsity= names no pattern"),
    ],
)
def test_patterns_that_do_not_fit(sparsity, message):
    with pytest.raises(ValueError, match=message):
        calibrate(tiny_models.llama(), tiny_models.token_batches(), sparsity, score="weight")


class Own(nn.Linear):
    """Computes what a linear layer does, in its own words, as Falcon's does."""

    def forward(self, input):
        output = input @ self.weight.T
        return output if self.bias is None else output + self.bias


class Shifted(nn.Linear):
    """Almost a linear layer."""

    def forward(self, input):
        return super().forward(input) + 1e-3


class WithMore(nn.Linear):
    """Its forward depends on more than its weights."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, input):
        return super().forward(input) * self.gain


class Rectified(nn.Linear):
    def forward(self, input):
        return super().forward(input).relu()


class Noisy(nn.Linear):
    def forward(self, input):
        return super().forward(nn.functional.dropout(input))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_with_an_equal_forward_is_a_site(dtype, bias):
    from sparsact.inference import sparsify

    model = nn.Sequential(Own(8, 16, bias), nn.ReLU(), nn.Linear(16, 4)).to(dtype).eval()
    x = torch.randn(64, 8, dtype=dtype)
    plan = calibrate(model, [x], 0.5, score="weight")
    assert [site.name for site in plan.sites] == ["0", "2"]
    with plan.applied(model), torch.no_grad():
        expected = model(x)
    actual = sparsify(model, plan, "float32")(x)
    torch.testing.assert_close(actual, expected, rtol=0, atol=float(expected.abs().max()) * 0.05)


@pytest.mark.parametrize("kind", [Shifted, WithMore, Rectified, Noisy])
def test_a_layer_with_another_forward_is_none(kind):
    model = nn.Sequential(kind(8, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    plan = calibrate(model, [torch.randn(64, 8)], 0.5, score="weight")
    assert [site.name for site in plan.sites] == ["2"]


def test_falcon():
    from transformers import FalconConfig, FalconForCausalLM

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = FalconConfig(vocab_size=tiny_models.VOCABULARY, **sizes)
    model = FalconForCausalLM(config).eval()
    plan = calibrate(model, tiny_models.token_batches(), 0.5, score="weight")
    assert {reader.rpartition(".")[2] for site in plan.sites for reader in site.readers} == {
        "query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h",
    }  # fmt: skip
