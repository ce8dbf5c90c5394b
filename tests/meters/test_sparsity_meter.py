"""The meter against sums that are computed directly."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sparsact.meters import LayerStats, SparsityMeter
from sparsact.meters.streaming_histogram import BINS, SAMPLED_PER_CALL, StreamingHistogram


class Pair(nn.Module):
    """A module whose output is a tuple."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.relu(x), x


def measure(x: Tensor, **keywords: object) -> LayerStats:
    model = nn.Sequential(nn.Identity())
    with SparsityMeter(model, "0", **keywords) as meter:
        model(x)
        return meter.compute()["0"]


def assert_equal_stats(stats: LayerStats, expected: LayerStats) -> None:
    for name in ("samples", "units", "density", "l0", "dead", "zero_gradient", "histogram"):
        assert getattr(stats, name) == getattr(expected, name), name
    assert stats.mean_magnitude == pytest.approx(expected.mean_magnitude, rel=1e-12)
    assert torch.equal(stats.unit_density, expected.unit_density)
    torch.testing.assert_close(stats.unit_magnitude, expected.unit_magnitude)


@pytest.mark.parametrize(
    ("model", "name", "x", "unit_dim"),
    [
        (nn.Sequential(nn.Linear(5, 7), nn.ReLU()), "1", torch.randn(11, 5), 1),
        (nn.Sequential(nn.Linear(5, 7), nn.ReLU()), "1", torch.randn(3, 4, 5), 2),
        (nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU()), "1", torch.randn(4, 2, 6, 7), 1),
        (nn.Sequential(nn.Linear(5, 7), Pair()), "1", torch.randn(11, 5), 1),
        (nn.Sequential(nn.Identity(), nn.ReLU()), "1", torch.randn(9), 0),
    ],
    ids=["linear", "sequence", "conv", "tuple", "one-dim"],
)
def test_statistics_against_a_direct_computation(
    model: nn.Module, name: str, x: Tensor, unit_dim: int
) -> None:
    with SparsityMeter(model, name) as meter:
        output = model(x)
        stats = meter.compute()[name]
    y = output[0] if isinstance(output, tuple) else output
    by_unit = y.detach().double().movedim(unit_dim, -1).reshape(-1, y.shape[unit_dim])
    active = by_unit != 0
    assert (stats.samples, stats.units) == tuple(by_unit.shape)
    assert stats.density == pytest.approx(float(active.double().mean()))
    assert stats.l0 == pytest.approx(float(active.sum(1).double().mean()))
    assert stats.mean_magnitude == pytest.approx(float(by_unit.abs().mean()))
    assert stats.dead == pytest.approx(float((~active.any(0)).double().mean()))
    torch.testing.assert_close(stats.unit_density, active.double().mean(0))
    torch.testing.assert_close(stats.unit_magnitude, by_unit.abs().mean(0))
    assert sum(stats.histogram.counts) == int(active.sum())
    assert 0 < stats.density < 1  # else the test could not tell rows from columns


def test_unit_dim_can_be_chosen() -> None:
    x = torch.zeros(2, 3, 4)
    x[:, 1] = 1
    stats = measure(x, unit_dim=1)
    assert stats.units == 3
    assert stats.unit_density.tolist() == [0, 1, 0]


def test_a_unit_dim_that_does_not_exist_names_the_layer() -> None:
    model = nn.Sequential(nn.Identity())
    with SparsityMeter(model, "0", unit_dim=2):
        model(torch.ones(2, 3, 4))
        with pytest.raises(ValueError, match=r"unit_dim=2 does not exist at '0'.*\(2, 3\)"):
            model(torch.ones(2, 3))


def test_units_of_one_vector() -> None:
    stats = measure(torch.tensor([1.0, 0.0, -2.0]), unit_dim=0)
    assert (stats.samples, stats.units) == (1, 3)
    assert stats.unit_magnitude.tolist() == [1, 0, 2]


def test_input_of_a_module_can_be_measured() -> None:
    model = nn.Sequential(nn.ReLU())
    with SparsityMeter(model, "0", on="input") as meter:
        model(-torch.ones(2, 3))
        assert meter.compute()["0"].density == 1.0


def test_batches_add_up_to_one_large_batch() -> None:
    x = torch.randn(30, 6).relu()
    x[:, 2] = 0
    model = nn.Sequential(nn.Identity())
    with SparsityMeter(model, "0") as meter:
        for batch in x.split([1, 12, 17]):
            model(batch)
        assert_equal_stats(meter.compute()["0"], measure(x))


def test_a_unit_is_dead_only_if_it_is_zero_in_every_batch() -> None:
    model = nn.Sequential(nn.Identity())
    with SparsityMeter(model, "0") as meter:
        model(torch.tensor([[0.0, 1.0, 0.0, 0.0]]))
        assert meter.compute()["0"].dead == 0.75
        model(torch.tensor([[0.0, 0.0, 2.0, 0.0]]))
        assert meter.compute()["0"].dead == 0.5


def test_zero_gradient_by_hand() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU())
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2))
    x = torch.tensor([[1.0, -1.0], [-1.0, -1.0], [2.0, 3.0]])  # 3 of 6 get a gradient
    with SparsityMeter(model, "1", gradients=True) as meter:
        y = model(x)
        assert meter.compute()["1"].zero_gradient is None
        y.sum().backward()
        assert meter.compute()["1"].zero_gradient == 0.5
    with SparsityMeter(model, "1", gradients=True) as meter:
        model(x)[:, :1].sum().backward()  # the second unit is not used
        assert meter.compute()["1"].zero_gradient == pytest.approx(4 / 6)


@pytest.mark.parametrize(
    "batches",
    [
        [torch.linspace(-0.9, 0.9, 500), torch.linspace(-7, 5, 700), torch.tensor([100.0])],
        [torch.tensor([1.0, -1.0, 0.5]), torch.tensor([2.0, -2.0]), torch.tensor([3.0])],
        [torch.tensor([-1e-30, 1e-30, 16.0])],
        [torch.tensor([1e-45, 1e-40, -1e-45])],
        [torch.tensor([3e38, -3e38, 1.0])],
    ],
    ids=["growing", "powers-of-two", "tiny-beside-large", "subnormal", "near-overflow"],
)
def test_histogram_counts_as_numpy_does_with_the_final_limit(batches: list[Tensor]) -> None:
    streaming = StreamingHistogram()
    for batch in batches:
        streaming.update(batch)
    histogram = streaming.compute()
    values = torch.cat(batches).double().numpy()
    values = values[values != 0]
    counts, edges = np.histogram(values, BINS, (-histogram.limit, histogram.limit))
    assert list(histogram.counts) == counts.tolist()
    np.testing.assert_allclose(histogram.edges, edges, rtol=1e-12, atol=0)


def test_histogram_samples_evenly_from_a_large_tensor() -> None:
    x = torch.ones(1000, 64)
    x[:, ::2] = -1
    streaming = StreamingHistogram()
    streaming.update(x)
    counts = torch.tensor(streaming.compute().counts)
    total = int(counts.sum())
    assert SAMPLED_PER_CALL / 2 < total <= SAMPLED_PER_CALL
    assert abs(int(counts[: BINS // 2].sum()) - total / 2) <= 1


def test_reset_begins_a_new_window() -> None:
    model = nn.Sequential(nn.Identity())
    with SparsityMeter(model, "0") as meter:
        model(torch.full((4, 3), 100.0))
        meter.reset()
        with pytest.raises(RuntimeError, match="has run"):
            meter.compute()
        x = torch.tensor([[0.0, 0.5, -0.25]])
        model(x)
        assert_equal_stats(meter.compute()["0"], measure(x))


def test_remove_leaves_no_hooks() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    meter = SparsityMeter(model, ["0", "1"], gradients=True)
    assert model[0]._forward_hooks
    assert model[1]._forward_pre_hooks
    model(torch.ones(1, 2))
    meter.remove()
    meter.remove()
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    model(torch.ones(5, 2))
    assert meter.compute()["0"].samples == 1


def test_layers_that_have_not_run_are_omitted() -> None:
    model = nn.Sequential(nn.ReLU(), nn.ReLU())
    with SparsityMeter(model, ["0", "1"]) as meter:
        with pytest.raises(RuntimeError, match="call the model first"):
            meter.compute()
        model[0](torch.ones(1, 2))
        with pytest.warns(UserWarning, match=r"a part of what it names \('1' did not run\)"):
            assert list(meter.compute()) == ["0"]
        assert list(meter.compute()) == ["0"]  # without a second warning


def test_selector_that_matches_nothing() -> None:
    with pytest.raises(ValueError, match="nope"):
        SparsityMeter(nn.Sequential(nn.ReLU()), "nope*")


def test_all_zero() -> None:
    stats = measure(torch.zeros(4, 3))
    assert (stats.density, stats.l0, stats.dead, stats.mean_magnitude) == (0, 0, 1, 0)
    assert sum(stats.histogram.counts) == 0


def test_an_empty_batch_counts_for_nothing() -> None:
    model = nn.Sequential(nn.Identity())
    with SparsityMeter(model, "0") as meter:
        model(torch.zeros(0, 3))
        with pytest.raises(RuntimeError, match="has run"):
            meter.compute()
        x = torch.tensor([[1.0, 0.0, 2.0]])
        model(x)
        model(torch.zeros(0, 3))
        assert_equal_stats(meter.compute()["0"], measure(x))


def test_nan_and_inf_are_active_and_not_in_the_histogram() -> None:
    stats = measure(torch.tensor([[math.nan, 0.0, 1.0], [math.inf, 0.0, -math.inf]]))
    assert stats.unit_density.tolist() == [1, 0, 1]
    assert math.isnan(stats.mean_magnitude)
    assert stats.unit_magnitude[1] == 0
    assert stats.unit_magnitude[2] == math.inf
    assert sum(stats.histogram.counts) == 1
    assert stats.histogram.limit == 2.0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_are_summed_exactly(dtype: torch.dtype) -> None:
    x = torch.full((5000, 2), 0.1, dtype=dtype)
    stats = measure(x)
    assert stats.mean_magnitude == pytest.approx(float(x[0, 0]), rel=1e-12)
    assert stats.density == 1.0


def test_reset_in_inference_mode():
    model = nn.Sequential(nn.Linear(5, 7), nn.ReLU())
    x = torch.randn(11, 5)
    with SparsityMeter(model, "1") as meter:
        with torch.inference_mode():
            meter.reset()
            model(x)
        model(100 * x).sum().backward()
        stats = meter.compute()["1"]
    assert stats.samples == 22
    assert sum(stats.histogram.counts) == int((model(torch.cat([x, 100 * x])) != 0).sum())
