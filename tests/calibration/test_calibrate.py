import itertools

import pytest
import torch
from torch import nn

import tiny_models
from sparsact.calibration import calibrate
from sparsact.calibration.allocations import ALLOCATIONS
from sparsact.calibration.scores import SCORES


def summed_square(output, batch):
    return output.square().sum()


def state_of(model):
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    weights = [parameter.detach().clone() for parameter in model.parameters()]
    return (
        hooks,
        [module.training for module in model.modules()],
        [parameter.requires_grad for parameter in model.parameters()],
        model.config.use_cache,
    ), weights


@pytest.mark.parametrize(("score", "allocate"), list(itertools.product(SCORES, ALLOCATIONS)))
def test_the_sparsity_is_reached(score, allocate):
    model, batches = tiny_models.llama(), tiny_models.token_batches(rows=6, length=32)
    model.train().model.embed_tokens.requires_grad_(False)
    (flags, weights) = state_of(model)
    plan = calibrate(model, batches, 0.4, score=score, allocate=allocate)
    assert plan.achieved_sparsity == pytest.approx(0.4, abs=0.01)
    assert (plan.score, plan.allocate, plan.sparsity) == (score, allocate, 0.4)
    assert len(plan.sites) == len(plan.thresholds) == len(plan.achieved) == 8
    if allocate == "uniform":
        assert all(share == pytest.approx(0.4, abs=0.02) for share in plan.achieved.values())
    for site in plan.sites:
        level = plan.thresholds[site.name]
        assert level.shape == (site.inputs,)
        assert level.dtype == torch.float32
        assert ((level >= 0) & level.isfinite()).all()
    after, unchanged = state_of(model)
    assert after == flags
    assert all(torch.equal(a, b) for a, b in zip(weights, unchanged, strict=True))
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("sparsity", [0.1, 0.6, 0.9])
@pytest.mark.parametrize("kind", ["gpt2", "qwen2"])
def test_other_sparsities_and_models(kind, sparsity):
    model, batches = getattr(tiny_models, kind)(), tiny_models.token_batches()
    plan = calibrate(model, batches, sparsity)
    assert plan.achieved_sparsity == pytest.approx(sparsity, abs=0.01)


def test_vit_and_bert():
    images = [{"pixel_values": torch.randn(8, 3, 16, 16)}]
    assert calibrate(tiny_models.vit(), images, 0.5).achieved_sparsity == pytest.approx(
        0.5, abs=0.01
    )
    plan = calibrate(
        tiny_models.bert(),
        tiny_models.token_batches(),
        0.5,
        loss_fn=lambda output, batch: (
            output.last_hidden_state[batch["attention_mask"] == 1].square().sum()
        ),
    )
    assert plan.achieved_sparsity == pytest.approx(0.5, abs=0.01)


def test_bfloat16_model():
    model = tiny_models.llama().bfloat16()
    plan = calibrate(model, tiny_models.token_batches(), 0.5)
    assert plan.achieved_sparsity == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("allocate", ALLOCATIONS)
def test_no_sparsity_changes_nothing(allocate):
    model, x = tiny_models.mlp(), torch.randn(100, 16)
    model[2].weight.data[:, :5] = 0
    plan = calibrate(model, [x], 0.0, allocate=allocate, loss_fn=summed_square)
    assert all(not level.any() for level in plan.thresholds.values())
    with plan.applied(model):
        sparse = model(x)
    assert torch.equal(sparse, model(x))
    assert plan.achieved["0"] == 0
    assert plan.achieved["2"] > 0.3  # what the ReLU gives


@pytest.mark.parametrize("allocate", ["global", "uniform"])
def test_natural_zeros_that_suffice(allocate):
    model, x = nn.Sequential(nn.ReLU(), nn.Linear(40, 8)), torch.randn(500, 40) - 0.26
    plan = calibrate(model, [x], 0.5, score="magnitude", allocate=allocate)
    assert not plan.thresholds["1"].any()
    assert plan.achieved_sparsity == pytest.approx(0.6, abs=0.01)


def test_an_iterator_and_a_loader():
    model, batches = tiny_models.mlp(), list(torch.randn(3, 50, 16))
    expected = calibrate(model, batches, 0.4, loss_fn=summed_square)
    loader = torch.utils.data.DataLoader(torch.cat(batches), batch_size=50)
    for source in (iter(batches), tuple(batches), loader):
        plan = calibrate(model, source, 0.4, loss_fn=summed_square)
        assert plan.achieved == expected.achieved
        assert all(torch.equal(plan.thresholds[n], t) for n, t in expected.thresholds.items())


@pytest.mark.parametrize(
    ("score", "sparsity", "held_out", "total"),
    [("loss", 0.5, None, 13), ("loss", 0.5, 2, 12), ("weight", 0.0, None, 6)],
)
@pytest.mark.parametrize("allocate", ["global", "block"])
def test_progress_reaches_its_end(score, sparsity, held_out, total, allocate):
    steps = []
    calibrate(
        tiny_models.mlp(),
        list(torch.randn(3, 20, 16)),
        sparsity,
        score=score,
        allocate=allocate,
        loss_fn=summed_square,
        held_out=held_out and list(torch.randn(held_out, 20, 16)),
        progress=lambda *step: steps.append(step),
    )
    total += 3 if allocate == "block" else 0  # sites
    assert [step[:2] for step in steps] == [(i + 1, total) for i in range(total)]
    assert steps[0][2] == ("gradients" if score == "loss" else "scores")
    assert ("blocks" in {name for *_, name in steps}) == (allocate == "block")
    assert [name for *_, name in steps].count("sparsity") == (held_out or 3)


class Routed(nn.Module):
    """Rows go to the expert that their first entry's sign names."""

    def __init__(self):
        super().__init__()
        self.positive, self.negative = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        up = x[:, 0] > 0
        y = torch.empty_like(x)
        y[up], y[~up] = self.positive(x[up]), self.negative(x[~up])
        return y


@pytest.mark.parametrize("score", SCORES)
def test_experts(score):
    x = torch.randn(400, 6)
    plan = calibrate(Routed(), [x[:200], x[200:]], 0.5, score=score, loss_fn=summed_square)
    assert plan.achieved_sparsity == pytest.approx(0.5, abs=0.01)
    # an expert that no row of the data reaches is left dense, and spoils nothing
    plan = calibrate(Routed(), [x[x[:, 0] > 0]], 0.5, score=score, loss_fn=summed_square)
    assert list(plan.thresholds) == ["positive"]
    assert plan.achieved_sparsity == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sparsity": 1.0}, ValueError, r"in \[0, 1\).*got 1.0"),
        ({"sparsity": -0.1}, ValueError, r"in \[0, 1\)"),
        ({"sparsity": float("nan")}, ValueError, r"in \[0, 1\)"),
        ({"score": "wieght"}, ValueError, "loss, weight, magnitude; got 'wieght'"),
        ({"allocate": "blocks"}, ValueError, "global, block, uniform; got 'blocks'"),
        ({"keep_first": -1}, ValueError, "at least 0, got -1"),
        ({"batches": []}, ValueError, "no batches to calibrate on"),
        ({"batches": iter(())}, ValueError, "no batches to calibrate on"),
        ({"batches": torch.randn(4, 16)}, TypeError, "one Tensor: wrap it in a list"),
        ({"batches": {"x": torch.randn(4, 16)}}, TypeError, "one dict: wrap it in a list"),
        ({"held_out": torch.randn(4, 16)}, TypeError, "one Tensor: wrap it in a list"),
        ({"held_out": []}, ValueError, "no batches to measure on"),
        ({"include": "conv*"}, ValueError, "no module matches 'conv\\*'"),
        ({"model": nn.Sequential(nn.ReLU())}, ValueError, "has no linear layer"),
    ],
)
def test_wrong_use(options, error, message):
    arguments = {
        "model": tiny_models.mlp(),
        "batches": [torch.randn(4, 16)],
        "score": "weight",
        **options,
    }
    with pytest.raises(error, match=message):
        calibrate(arguments.pop("model"), arguments.pop("batches"), **arguments)


@pytest.mark.parametrize(
    ("held_out", "message"),
    [([], "no batches to measure on"), ({"x": torch.randn(4, 16)}, "one dict: wrap it in a list")],
)
def test_held_out_is_checked_before_the_work(held_out, message):
    steps = []
    with pytest.raises((ValueError, TypeError), match=message):
        calibrate(
            tiny_models.mlp(),
            [torch.randn(4, 16)],
            score="weight",
            held_out=held_out,
            progress=lambda *step: steps.append(step),
        )
    assert not steps


@pytest.mark.versions
def test_a_compiled_model():
    model = tiny_models.mlp()
    with pytest.raises(RuntimeError, match="compiled already"):
        calibrate(torch.compile(model), [torch.randn(4, 16)])
    assert not any(module._forward_pre_hooks for module in model.modules())
