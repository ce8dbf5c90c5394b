"""Selection over a batch, against a sort."""

import pytest
import torch

import sparsact.functional as SF


@pytest.mark.parametrize("by", ["value", "magnitude"])
def test_against_a_sort(by):
    x = torch.randn(50, 20)
    score = x.relu() if by == "value" else x.abs()
    edge = score.flatten().sort(descending=True).values[4 * 50 - 1]
    expected = torch.where(score >= edge, x, 0.0)
    got = SF.batch_topk(x, 4, by=by)
    assert got.equal(expected)
    assert (got != 0).sum() == 200
    assert len({int(n) for n in (got != 0).sum(-1)}) > 1  # rows do not keep k each


def test_rows_lie_along_the_dim():
    x = torch.rand(3, 6, 4) + 1
    assert (SF.batch_topk(x, 2, dim=1) != 0).sum() == 2 * 12
    assert SF.batch_topk(x, 2, dim=1).equal(SF.batch_topk(x, 2, dim=-2))
    assert (SF.batch_topk(x, 2) != 0).sum() == 2 * 18


def test_ties_and_extremes():
    assert (SF.batch_topk(torch.ones(5, 10), 3) != 0).sum() == 15
    assert SF.batch_topk(torch.ones(2, 4), 0).equal(torch.zeros(2, 4))
    assert SF.batch_topk(torch.ones(2, 4), 9).equal(torch.ones(2, 4))
    assert SF.batch_topk(-torch.ones(2, 4), 2).equal(torch.zeros(2, 4))


@pytest.mark.parametrize("by", ["value", "magnitude"])
def test_a_full_mask_changes_nothing(by):
    x = torch.randn(10, 8)
    assert SF.batch_topk(x, 3, by=by, mask=torch.ones(1).bool()).equal(SF.batch_topk(x, 3, by=by))


def test_padding_does_not_raise_the_number_kept():
    x = torch.rand(6, 5) + 1
    mask = (torch.arange(6) < 4)[:, None]
    for other in (True, False):
        got = SF.batch_topk(x, 2, mask=mask, zero_other=other)
        assert got[:4].equal(SF.batch_topk(x[:4], 2))
        assert got[4:].equal(torch.zeros(2, 5) if other else x[4:])
    some = torch.arange(5) < 1  # each row has one competitor: fewer than k·B can be kept
    assert SF.batch_topk(x, 2, mask=some, zero_other=True).equal(torch.where(some, x, 0.0))


@pytest.mark.parametrize(
    ("k", "by", "error"),
    [(-1, "value", ValueError), (1.5, "value", TypeError), (2, "size", ValueError)],
)
def test_refuses(k, by, error):
    with pytest.raises(error):
        SF.batch_topk(torch.ones(3), k, by=by)
