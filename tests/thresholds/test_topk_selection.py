"""Selection of the k largest entries of a row."""

import pytest
import torch

import sparsact.functional as SF


def test_against_a_sort():
    x = torch.randn(50, 20)
    got = SF.topk(x, 4)
    for row, kept in zip(x, got, strict=True):
        largest = row.sort(descending=True).values[:4].relu()
        assert kept[kept != 0].sort(descending=True).values.equal(largest[largest > 0])
    magnitude = SF.topk(x, 4, by="magnitude")
    assert ((magnitude != 0).sum(-1) == 4).all()
    assert magnitude[magnitude != 0].equal(x[magnitude != 0])


def test_ties_and_extremes():
    assert (SF.topk(torch.ones(10), 3) != 0).sum() == 3
    assert SF.topk(torch.ones(4), 0).equal(torch.zeros(4))
    assert SF.topk(torch.ones(4), 9).equal(torch.ones(4))
    assert SF.topk(-torch.ones(4), 2).equal(torch.zeros(4))


def test_dims_and_mask():
    x = torch.randn(3, 6, 4)
    assert SF.topk(x, 2, dim=1).equal(SF.topk(x, 2, dim=-2))
    mask = torch.arange(6) % 2 == 0
    rows = torch.rand(5, 6) + 1
    kept = SF.topk(rows, 2, mask=mask, zero_other=True)
    assert kept[:, 1::2].equal(torch.zeros(5, 3))
    assert ((kept != 0).sum(-1) == 2).all()
    passed = SF.topk(rows, 2, mask=mask)
    assert passed[:, 1::2].equal(rows[:, 1::2])


@pytest.mark.parametrize(
    ("k", "by", "error"),
    [
        (-1, "value", ValueError),
        (1.5, "value", TypeError),
        (True, "value", TypeError),
        (2, "size", ValueError),
    ],
)
def test_refuses(k, by, error):
    with pytest.raises(error):
        SF.topk(torch.ones(3), k, by=by)
