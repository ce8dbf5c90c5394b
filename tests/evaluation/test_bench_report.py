"""What the report says of what was measured."""

import dataclasses

import pytest
import torch

import tiny_models
from sparsact.calibration import calibrate
from sparsact.calibration.weight_updates import Updates
from sparsact.evaluation import BenchConfig
from sparsact.evaluation.bench_report import Findings, Level, make_report
from sparsact.evaluation.weight_bytes import dense_layers, has_experts, share_of_sites
from sparsact.inference import sparsify

CONFIG = BenchConfig("models/some", "plan", windows=1, rounds=1, tokens=4)
SPARSE = "sparse bfloat16"


@pytest.fixture(scope="module")
def plan():
    model = tiny_models.llama()
    return calibrate(model, tiny_models.token_batches(), 0.5, score="weight", keep_first=1)


def facts_and(plan, config=CONFIG, **changes):
    actual = {
        "dense": torch.zeros(config.windows),
        "sparse": torch.ones(config.windows),
        "curve": [Level(0.3, 0.3, torch.zeros(config.windows))],
        "achieved": plan.achieved,
        "times": {"dense float32": [1.0, 3.0], SPARSE: [1.0, 2.0]},
        "weight_bytes": {"dense float32": 10, SPARSE: 5},
        "layer_error": 0.0,
        "share_of_sites": 0.4,
        "dense_layers": (),
        "has_experts": False,
    }
    report = make_report(config, plan, SPARSE, Findings(**{**actual, **changes}))
    return "\n".join(report.facts), report


def test_the_middle_half_lies_within_the_times(plan):
    _, report = facts_and(plan)
    assert [(row.low, row.high) for row in report.decode] == [(1.5, 2.5), (1.25, 1.75)]


def test_a_single_window_is_singular_and_has_no_error(plan, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    facts, _ = facts_and(plan)
    for one in ("1 window of", "1 round of", "1 thread,", "the first 1 token dense"):
        assert one in facts
    assert "±" not in facts
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    facts, _ = facts_and(plan, dataclasses.replace(CONFIG, windows=3, rounds=2))
    for more in ("3 windows of", "2 rounds of", "2 threads,", "± is the standard error"):
        assert more in facts


def test_facts_name_shares_dense_layers_and_experts(plan):
    facts, report = facts_and(plan, dense_layers=("mlp.down_proj", "lm_head"))
    assert "of the weights of its sites not read" in report.title
    assert "are 40% of what a dense token reads" in facts
    assert "made from the float32 model" in facts
    assert "stay float32: mlp.down_proj, lm_head" in facts
    assert "all experts count" not in facts
    facts, _ = facts_and(plan, has_experts=True)
    assert "all experts count, although a token uses only some" in facts
    assert "stay float32" not in facts


def test_a_tuned_plan_is_marked(plan):
    facts, report = facts_and(plan)
    assert "tuned" not in facts
    assert [row.apart for row in report.quality] == [False, False, False]
    tuned = dataclasses.replace(plan, updates=Updates({"model.norm.weight": torch.ones(32)}))
    facts, report = facts_and(tuned)
    assert "tuned: weights are changed too" in facts
    assert [row.apart for row in report.quality] == [False, True, False]


def test_shares_and_layers_of_a_model():
    model, batches = tiny_models.llama(), tiny_models.token_batches()
    plan = calibrate(model, batches, 0.5, score="weight", include="*.mlp.*_proj")
    read = sum(p.numel() for name, p in model.named_parameters() if "embed" not in name)
    mlp = sum(p.numel() for name, p in model.named_parameters() if "mlp" in name)
    assert share_of_sites(model, plan.sites) == pytest.approx(mlp / read, rel=0.01)
    assert not has_experts(model)
    sparse = sparsify(model, plan, "bfloat16")
    assert dense_layers(sparse) == tuple(f"self_attn.{name}_proj" for name in "qkvo")
    model.model.layers[0].mlp.experts = torch.nn.Module()
    assert has_experts(model)
    model.model.layers[0].mlp.experts.up_proj = torch.nn.Parameter(torch.zeros(2, 3, 4))
    assert "mlp.experts" in dense_layers(sparse)
