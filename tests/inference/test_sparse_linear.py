import copy
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from torch import nn

from sparsact.inference import SparseLinear
from sparsact.inference.dense_crossing import Crossings, crossing, shortest_ms, use_crossings
from sparsact.kernels.cpu import gather as compiled

DTYPES = ["float32", "bfloat16", "int8"]


@pytest.fixture(autouse=True)
def _measured_anew():
    with use_crossings(Crossings(partial(shortest_ms, cold_bytes=1 << 10))), torch.no_grad():
        yield


@contextmanager
def fixed_times(all_ms, half_ms, dense_ms):
    """A block in which these are the measured times; gives the list of measurements."""
    calls = []

    def times(*functions):
        calls.append(functions)
        return [all_ms, half_ms, dense_ms]

    with use_crossings(Crossings(times)):
        yield calls


@pytest.mark.parametrize("rows", [(), (1,), (2, 3), (80,), (0,)], ids=str)
@pytest.mark.parametrize("bias", [False, True])
def test_equals_the_dense_layer_on_thresholded_inputs(rows, bias):
    source, x = nn.Linear(30, 50, bias=bias), torch.randn(*rows, 30)
    kept = torch.where(x.abs() > 0.5, x, 0)
    torch.testing.assert_close(SparseLinear(source, 0.5)(x), source(kept))


def test_a_threshold_for_each_input():
    source, x, threshold = nn.Linear(30, 50), torch.randn(4, 30), torch.rand(30)
    kept = torch.where(x.abs() > threshold, x, 0)
    torch.testing.assert_close(SparseLinear(source, threshold)(x), source(kept))


@pytest.mark.parametrize("x_dtype", [torch.float32, torch.bfloat16], ids=str)
def test_bfloat16_rounds_only_the_weights(x_dtype):
    source, x = nn.Linear(30, 50), torch.randn(4, 30).to(x_dtype)
    rounded = nn.functional.linear(x.float(), source.weight.bfloat16().float(), source.bias)
    actual = SparseLinear(source, 0.0, dtype="bfloat16")(x)
    torch.testing.assert_close(actual, rounded.to(x_dtype), rtol=2**-7, atol=1e-5)


@pytest.mark.parametrize("x_dtype", [torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("largest", [0.5, torch.finfo(torch.float32).max])
def test_other_dtypes_are_computed_in_float32(x_dtype, largest):
    source, x = nn.Linear(30, 50), torch.randn(4, 30).to(x_dtype)
    threshold = torch.full((30,), 0.5)
    threshold[3] = largest
    kept = torch.where(x.float().abs() > threshold, x.float(), 0)
    layer = SparseLinear(source, threshold)
    actual = layer(x)
    assert actual.dtype == x_dtype
    like = torch.float32 if x_dtype == torch.float64 else x_dtype  # sums are float32
    torch.testing.assert_close(actual.to(like), source(kept).to(like))
    assert torch.equal(torch.compile(layer, fullgraph=True)(x), actual)
    with pytest.raises(TypeError, match="x must be float32 or bfloat16"):
        layer(torch.ones(4, 30, dtype=torch.long))


def test_int8_is_within_half_a_step_of_each_weight():
    source = nn.Linear(30, 50)
    source.weight.data[7] = 0
    layer = SparseLinear(source, 0.0, dtype="int8")
    step = source.weight.abs().amax(1)[:, None] / 127
    error = (layer.weight_t.float() * layer.scale).T - source.weight
    assert (error.abs() <= step / 2 + 1e-7).all()
    assert layer.weight_t.abs().amax(0).tolist() == [0 if row == 7 else 127 for row in range(50)]
    x = torch.randn(4, 30)
    expected = x @ (layer.weight_t * layer.scale) + source.bias
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_state_dict_round_trip(dtype):
    source, x = nn.Linear(30, 50), torch.randn(4, 30)
    layer, other = (
        SparseLinear(source, 0.3, dtype=dtype),
        SparseLinear(nn.Linear(30, 50), 0.0, dtype=dtype),
    )
    assert set(layer.state_dict()) == {"weight", "bias"}
    assert layer.load_state_dict(layer.state_dict()).missing_keys == []
    other.load_state_dict(layer.state_dict())
    other.threshold.copy_(layer.threshold)
    assert torch.equal(other(x), layer(x))
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))


def test_the_source_is_not_shared():
    source, x = nn.Linear(3, 2), torch.ones(1, 3)
    layer = SparseLinear(source, 0.0)
    before = layer(x)
    for parameter in source.parameters():
        parameter.zero_()
    assert torch.equal(layer(x), before)
    assert list(layer.parameters()) == []


def test_measured_once_for_a_shape_and_about_so_many_rows():
    layer, twin = SparseLinear(nn.Linear(8, 5), 0.5), SparseLinear(nn.Linear(8, 5), 0.7)
    with fixed_times(4.0, 2.0, 3.0) as calls:
        for rows in (1, 1, 2, 3, 4, 7):
            layer(torch.randn(rows, 8))
            twin(torch.randn(rows, 8))
        assert len(calls) == 3
        assert layer.dense_above == twin.dense_above == {1: 0.75, 2: 0.75, 4: 0.75}
        SparseLinear(nn.Linear(8, 5), 0.5, dtype="bfloat16")(torch.randn(1, 8))
        assert len(calls) == 4


@pytest.mark.parametrize(("dense_ms", "taken"), [(1.0, True), (9.0, False)])
def test_the_faster_way_is_taken(monkeypatch, dense_ms, taken):
    dense, calls = compiled.Product._dense, []
    monkeypatch.setattr(compiled.Product, "_dense", lambda *args: calls.append(1) or dense(*args))
    source, x = nn.Linear(8, 5), torch.ones(1, 8)
    with fixed_times(4.0, 2.0, dense_ms):
        torch.testing.assert_close(SparseLinear(source, 0.5)(x), source(x))
    assert bool(calls) == taken


def test_crossing():
    assert crossing(100, all_ms=3, half_ms=2, dense_ms=3) == 100
    assert crossing(100, all_ms=4, half_ms=2, dense_ms=3) == 75
    assert crossing(100, all_ms=4, half_ms=3, dense_ms=1) == -1  # even with none active
    assert crossing(100, all_ms=4, half_ms=4, dense_ms=3) == -1
    assert crossing(1, all_ms=4, half_ms=4, dense_ms=3) == -1


def test_a_real_measurement_gives_a_density():
    layer = SparseLinear(nn.Linear(64, 64), 0.5)
    layer(torch.randn(1, 64))
    (density,) = layer.dense_above.values()
    assert 0 <= density <= 1


@pytest.mark.versions
def test_compiles_in_one_graph_without_measuring():
    layer, x = SparseLinear(nn.Linear(8, 5), 0.5), torch.randn(2, 8)
    actual = torch.compile(layer, fullgraph=True)(x)
    assert layer.dense_above == {}
    torch.testing.assert_close(actual, layer(x))


def test_casting_the_model_leaves_the_layer_as_it_is():
    layer, x = SparseLinear(nn.Linear(30, 50), torch.rand(30)), torch.randn(2, 30)
    before = layer(x)
    kept = {name: buffer.clone() for name, buffer in layer.named_buffers()}
    nn.Sequential(layer).to(torch.bfloat16)
    assert all(torch.equal(layer.get_buffer(name), buffer) for name, buffer in kept.items())
    assert torch.equal(layer(x), before)
    assert layer.to("meta").weight_t.is_meta


def test_replaced_buffers_are_used():
    layer, x = SparseLinear(nn.Linear(30, 50), 0.5), torch.randn(30)
    before = layer(x)
    layer.weight_t *= 2  # in place
    layer.bias *= 2
    torch.testing.assert_close(layer(x), 2 * before)
    layer.weight_t = layer.weight_t / 4
    layer.bias = layer.bias / 4
    torch.testing.assert_close(layer(x), before / 2)
    layer.threshold = torch.tensor(9.0)
    assert torch.equal(layer(x), layer.bias)


def test_wrong_use():
    source = nn.Linear(8, 5)
    with pytest.raises(ValueError, match="float32, bfloat16, int8"):
        SparseLinear(source, 0.5, dtype="float16")
    with pytest.raises(ValueError, match="at least 0"):
        SparseLinear(source, -0.5)
    with pytest.raises(ValueError, match="at least 0"):
        SparseLinear(source, torch.full((8,), -0.5))
    with pytest.raises(ValueError, match=r"\(8,\)"):
        SparseLinear(source, torch.ones(5))
    layer = SparseLinear(source, 0.5)
    with pytest.raises(ValueError, match="outputs"):
        layer(torch.ones(2, 7))
    with torch.enable_grad(), pytest.raises(RuntimeError, match="for inference"):
        layer(torch.ones(2, 8, requires_grad=True))
