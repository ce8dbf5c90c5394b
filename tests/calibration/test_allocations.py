import pytest
import torch
from torch import nn

import tiny_models
from sparsact.calibration import calibrate, find_sites
from sparsact.calibration.allocations import ALLOCATIONS
from sparsact.calibration.allocations.allocation import site_levels, thresholds_at
from sparsact.calibration.allocations.block_allocation import block_sparsity
from sparsact.calibration.allocations.global_allocation import global_levels
from sparsact.calibration.calibration_run import CalibrationRun
from sparsact.calibration.score_histogram import score_histograms
from sparsact.calibration.scores.weight_score import weight_scales
from sparsact.calibration.sites import enclosing_blocks


def scored(model, batch):
    """A run of one batch, with the scales and histograms of its scores."""
    run = CalibrationRun(model, [batch], find_sites(model, batch))
    scales = weight_scales(run)
    return run, scales, score_histograms(run, scales)


def test_uniform_is_each_sites_own_quantile():
    model, x = tiny_models.mlp(), torch.randn(500, 16)
    _, scales, histograms = scored(model, x)
    levels = site_levels(histograms, {"0": 0.3, "2": 0.8})
    hidden = model[:2](x).detach()
    for name, read, share in (("0", x, 0.3), ("2", hidden, 0.8)):
        expected = (read.abs() * scales[name]).flatten().quantile(share)
        assert levels[name] == pytest.approx(float(expected), rel=0.008)


@torch.no_grad()
def test_global_is_the_weighted_quantile_of_all_scores():
    model, x = tiny_models.mlp(), torch.randn(300, 16)
    run, scales, histograms = scored(model, x)
    scores, weights = [], []
    for site, depth in zip(run.sites, (0, 2, 4), strict=True):
        actual = (model[:depth](x).abs() * scales[site.name]).flatten()
        scores.append(actual)
        weights.append(torch.full_like(actual, site.outputs))
    flat, order = torch.cat(scores).sort()
    weight = torch.cat(weights)[order].double().cumsum(0)
    for sparsity in (0.45, 0.7):
        expected = float(flat[(weight >= sparsity * weight[-1]).nonzero()[0, 0]])
        levels = global_levels(run.sites, histograms, sparsity)
        assert len(set(levels.values())) == 1
        assert levels["0"] == pytest.approx(expected, rel=0.008)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(tiny_models.mlp(12, 20, 12) for _ in range(2))

    def forward(self, x):
        for block in self.blocks:
            x = x + block(x)
        return x


def plainly(model, x, sites, scales, sparsity, step=0.05):
    """TEAL's greedy as its text says it, without anything of the library's."""
    chosen = {}
    inputs = [x, x + model.blocks[0](x)]
    for number, block in enumerate(model.blocks):
        mine = [site for site in sites if site.name.startswith(f"blocks.{number}.")]
        reads = [inputs[number], torch.relu(block[0](inputs[number]))]

        def output(share, block=block, reads=reads, mine=mine, start=inputs[number]):
            value = start
            for layer, read, site in zip((0, 2), reads, mine, strict=True):
                score = read.abs() * scales[site.name]
                level = score.flatten().sort()[0][max(0, int(share[site.name] * score.numel()) - 1)]
                kept = value.abs() * scales[site.name] > (level if share[site.name] else 0)
                value = block[layer](torch.where(kept, value, 0))
                value = torch.relu(value) if layer == 0 else value
            return value

        share = {site.name: 0.0 for site in mine}
        dense, total = output(share), sum(site.weights for site in mine)
        for _ in range(round(sparsity / step)):
            by = {s.name: min(1 - share[s.name], step * total / s.weights) for s in mine}
            errors = {
                s.name: float(
                    (output({**share, s.name: share[s.name] + by[s.name]}) - dense).norm()
                )
                for s in mine
            }
            best = min(errors, key=errors.get)
            share[best] += by[best]
        chosen |= share
    return chosen


@torch.no_grad()
def test_block_is_greedy():
    model, x = Net(), torch.randn(400, 12)
    run, scales, _ = scored(model, x)
    for name in scales:
        scales[name].fill_(1)
    histograms = score_histograms(run, scales)
    actual = block_sparsity(run, scales, histograms, 0.4)
    assert actual == pytest.approx(plainly(model, x, run.sites, scales, 0.4))
    for number in range(2):
        mine = [site for site in run.sites if site.name.startswith(f"blocks.{number}.")]
        saved = sum(actual[site.name] * site.weights for site in mine)
        assert saved == pytest.approx(0.4 * sum(site.weights for site in mine))


def test_blocks_that_enclose_a_layer():
    assert enclosing_blocks("model.layers.3.mlp.up")[0] == "model.layers.3"
    assert enclosing_blocks("layers.3.0.fc") == ["layers.3", "layers.3.0", "layers.3.0.fc"]
    assert enclosing_blocks("head.fc") == [""]


class Listed(nn.Module):
    """Blocks that are mere lists, and whose second parts all read one tensor."""

    def __init__(self):
        super().__init__()
        pairs = [nn.ModuleList([tiny_models.mlp(8, 16, 8), nn.Linear(8, 8)]) for _ in range(2)]
        self.layers = nn.ModuleList(pairs)

    def forward(self, x):
        memory = torch.tanh(x)
        for body, cross in self.layers:
            x = x.clone()
            x += body(x)
            x += cross(memory)
        return x


def test_blocks_that_are_lists_and_sites_across_blocks():
    model, x = Listed(), torch.randn(100, 8)
    assert ("layers.0.1", "layers.1.1") in [site.readers for site in find_sites(model, x)]
    plan = calibrate(model, [x], 0.4, score="weight", allocate="block")
    assert plan.achieved_sparsity == pytest.approx(0.4, abs=0.01)


class ChangesItsInput(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x):
        x += self.fc(x)
        return x


def test_a_block_that_changes_its_input_in_place():
    model = nn.Sequential(nn.Sequential(nn.Linear(8, 8)), ChangesItsInput())
    x = torch.randn(100, 8)
    run, scales, histograms = scored(model, x)
    seen = []
    model[1].fc.register_forward_hook(lambda module, args, output: seen.append(args[0].clone()))
    block_sparsity(run, scales, histograms, 0.5)
    assert torch.equal(seen[0], seen[1])  # the dense run, and the dense one to compare with


def test_thresholds_at_a_level():
    scale = torch.tensor([0.0, 0.5, 2.0])
    assert thresholds_at(1.0, scale).tolist() == [torch.finfo(torch.float32).max, 2.0, 0.5]
    assert thresholds_at(0.0, scale).tolist() == [torch.finfo(torch.float32).max, 0, 0]


@pytest.mark.parametrize("allocate", sorted(ALLOCATIONS.keys() - {"block"}))
def test_channels_with_zero_weights_become_zero_without_error(allocate):
    model, x = nn.Sequential(nn.Linear(10, 4)), torch.randn(200, 10)
    model[0].weight.data[:, :6] = 0
    plan = calibrate(model, [x], 0.5, score="weight", allocate=allocate)
    assert plan.achieved_sparsity == pytest.approx(0.6)
    with plan.applied(model):
        sparse = model(x)
    assert torch.equal(sparse, model(x))
