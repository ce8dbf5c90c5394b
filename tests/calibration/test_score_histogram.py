import pytest
import torch

from sparsact.calibration.score_histogram import ScoreHistogram, level_below


def counted(*parts):
    histogram = ScoreHistogram()
    for part in parts:
        histogram.update(part)
    return histogram


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("size", [1e-20, 1.0, 1e6])
def test_quantiles_equal_those_of_sorted_scores(share, size):
    scores = size * torch.randn(50, 2000).abs()
    level = level_below(counted(*scores).counts, share)
    assert level == pytest.approx(float(scores.flatten().quantile(share)), rel=0.008)


def test_exact_zeros_make_the_level_zero():
    scores = torch.rand(1000) + 0.5
    scores[:600] = 0
    counts = counted(scores).counts
    assert level_below(counts, 0.5) == level_below(counts, 0.6) == 0
    assert 0.5 <= level_below(counts, 0.61) < 0.6
    assert level_below(counts, 0.0) == 0
    assert level_below(ScoreHistogram().counts, 0.5) == 0


def test_memory_does_not_grow():
    histogram = ScoreHistogram()
    before = histogram.counts.numel()
    for size in (1e-30, 1.0, 1e30):
        histogram.update(size * torch.rand(3, 70, dtype=torch.bfloat16))
    assert histogram.counts.numel() == before == 1 << 15
    assert histogram.counts.sum() == 630
    assert float(histogram.shares().sum()) == pytest.approx(1)


def test_scores_that_are_not_contiguous_or_empty():
    x = torch.rand(6, 8)
    assert torch.equal(counted(x.T).counts, counted(x).counts)
    assert counted(torch.empty(0, 5)).counts.sum() == 0


@pytest.mark.parametrize("bad", [float("nan"), -float("nan"), float("inf")])
def test_not_finite(bad):
    with pytest.raises(ValueError, match="NaN or infinite"):
        counted(torch.tensor([1.0, bad]))
