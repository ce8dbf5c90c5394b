"""The running threshold of BatchTopK."""

import pytest
import torch

import sparsact as sa
import sparsact.functional as SF


@pytest.mark.parametrize(("by", "gate"), [("value", SF.jumprelu), ("magnitude", SF.hardshrink)])
def test_eval_uses_the_running_mean_of_the_smallest_kept(by, gate):
    layer = sa.nn.BatchTopK(2, by=by, momentum=0.25)
    batches = [torch.randn(16, 8) * scale for scale in (1.0, 3.0, 2.0)]
    level = None
    for batch in batches:
        kept = layer(batch)
        assert kept.equal(SF.batch_topk(batch, 2, by=by))
        smallest = kept[kept != 0].abs().min()
        level = smallest if level is None else 0.75 * level + 0.25 * smallest
    torch.testing.assert_close(layer.running_threshold, level)
    x = torch.randn(5, 8) * 2
    layer.eval()
    assert layer(x).equal(gate(x, layer.running_threshold))
    assert 0 < (layer(x) == 0).sum() < x.numel()
    torch.testing.assert_close(layer.running_threshold, level)  # eval does not change it
    assert layer(x)[2:3].equal(layer(x[2:3]))  # nor depend on the other rows


def test_is_kept_in_the_state_dict():
    layer, fresh = sa.nn.BatchTopK(2), sa.nn.BatchTopK(2)
    layer(torch.rand(16, 8))
    fresh.load_state_dict(layer.state_dict())
    assert fresh.running_threshold > 0
    x = torch.randn(5, 8)
    assert fresh.eval()(x).equal(layer.eval()(x))


def test_batches_that_keep_nothing_do_not_count():
    layer = sa.nn.BatchTopK(2)
    assert layer.eval()(torch.tensor([-1.0, 2.0])).tolist() == [0, 2]  # relu before training
    layer.train()
    layer(-torch.rand(4, 8))
    layer(torch.empty(0, 8))
    assert layer.num_batches_tracked == 0
    layer(torch.rand(4, 8) + 1)
    assert layer.num_batches_tracked == 1
    assert layer.running_threshold > 1


def test_masked_entries_are_not_tracked():
    layer = sa.nn.BatchTopK(1)
    x = torch.tensor([[0.01, 5.0], [0.02, 6.0]])
    result = layer(x, mask=torch.tensor([False, True]))
    assert result.equal(x)  # masked entries pass
    assert layer.running_threshold == 5


@pytest.mark.versions
def test_compiled_moves_the_threshold_as_eager_does():
    torch._dynamo.reset()
    eager, layer = sa.nn.BatchTopK(2), sa.nn.BatchTopK(2)
    compiled = torch.compile(layer, fullgraph=True)
    for _ in range(3):
        batch = torch.randn(16, 8)
        assert compiled(batch).equal(eager(batch))
    torch.testing.assert_close(layer.running_threshold, eager.running_threshold)
    assert layer.num_batches_tracked == 3


def test_bfloat16_batches_move_a_float32_threshold():
    layer = sa.nn.BatchTopK(2)
    for _ in range(3):
        assert layer(torch.randn(16, 8).bfloat16()).dtype == torch.bfloat16
    assert layer.running_threshold.dtype == torch.float32


@pytest.mark.parametrize("momentum", [0.0, -0.1, 1.5, float("nan")])
def test_refuses_a_bad_momentum(momentum):
    with pytest.raises(ValueError, match="momentum"):
        sa.nn.BatchTopK(2, momentum=momentum)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_the_mean_moves_in_every_dtype(dtype):
    """In half precision, a hundredth of a small difference would be rounded away."""
    layer = sa.nn.BatchTopK(1).to(dtype)
    layer(torch.tensor([[1.0, 0.5]], dtype=dtype))
    for _ in range(500):
        layer(torch.tensor([[1.125, 0.5]], dtype=dtype))
    assert float(layer.running_threshold) == pytest.approx(1.125, abs=2e-3)
    result = layer.eval()(torch.tensor([[1.0, 1.25]], dtype=dtype))
    assert result.dtype == dtype
    assert result.tolist() == [[0.0, 1.25]]
