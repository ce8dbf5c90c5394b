"""Groups that are given by lists of indices."""

import copy

import numpy as np
import pytest
import torch

import sparsact as sa
import sparsact.functional as SF

GROUPS = [[5, 0, 2], [3, 4]]  # index 1 and 6 belong to none
FREE = [1, 6]
LISTED = [SF.group_softshrink, SF.sparse_group_softshrink]


def by_hand(x, levels, groups=GROUPS):
    """Group soft shrinkage of the columns of a matrix, group by group."""
    result = x.clone()
    for indices, level in zip(groups, levels, strict=True):
        norm = x[:, indices].norm(dim=1, keepdim=True)
        result[:, indices] = x[:, indices] * (1 - level / norm).clamp(min=0)
    return result


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.complex64])
def test_group_by_group(dtype):
    x = torch.randn(50, 7).to(dtype)
    result = SF.group_softshrink(x, torch.tensor([1.3, 0.6]), groups=GROUPS)
    assert result.dtype == dtype
    torch.testing.assert_close(result, by_hand(x, (1.3, 0.6)))
    assert torch.equal(result[:, FREE], x[:, FREE])


def test_contiguous_lists_equal_group_size():
    x = torch.randn(5, 6, requires_grad=True)
    lists = [[0, 1], [2, 3], [4, 5]]
    results = []
    for options in ({"group_size": 2}, {"groups": lists}, {"groups": np.array(lists)}):
        y = SF.group_softshrink(x, 0.8, **options)
        results.append((y, *torch.autograd.grad(y.square().sum(), x)))
    for result in results[1:]:
        torch.testing.assert_close(result, results[0])


def test_other_dims_belong_to_each_group():
    x = torch.randn(4, 7, 3, dtype=torch.float64)
    result = SF.group_softshrink(x, 2.0, dim=(0, 1), groups=GROUPS)
    rows = x.permute(2, 0, 1).reshape(3, 28)
    lists = [[r * 7 + i for r in range(4) for i in group] for group in GROUPS]
    expected = by_hand(rows, (2.0, 2.0), lists).reshape(3, 4, 7).permute(1, 2, 0)
    torch.testing.assert_close(result, expected)
    result = SF.group_softshrink(x[0], torch.ones(2, 1), dim=0, groups=GROUPS)
    torch.testing.assert_close(result, by_hand(x[0].T, (1.0, 1.0)).T)


def test_sparse_groups_shrink_entries_first():
    x = torch.randn(20, 7, dtype=torch.float64)
    result = SF.sparse_group_softshrink(x, 0.3, 0.9, groups=GROUPS)
    torch.testing.assert_close(result, by_hand(SF.softshrink(x, 0.3), (0.9, 0.9)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("function", LISTED)
def test_gradients(function, dtype):
    x = torch.randn(3, 7, dtype=dtype, requires_grad=True)
    lambd = torch.tensor([0.4, 0.2], dtype=torch.float64, requires_grad=True)
    levels = (lambda t: (t,)) if function is SF.group_softshrink else (lambda t: (0.05, t))
    assert torch.autograd.gradcheck(lambda x, t: function(x, *levels(t), groups=GROUPS), (x, lambd))


@pytest.mark.parametrize("function", LISTED)
def test_zeros_nan_and_extreme_values(function):
    x = torch.zeros(7, requires_grad=True)
    (grad,) = torch.autograd.grad(function(x, 0.5, groups=GROUPS).sum(), x)
    passes = function is SF.group_softshrink
    assert grad.tolist() == [0, float(passes), 0, 0, 0, 0, float(passes)]
    x = torch.ones(7)
    x[1] = torch.nan  # in no group
    assert function(x, 0.1, groups=GROUPS).isnan().tolist() == [i == 1 for i in range(7)]
    x[3] = torch.nan
    assert function(x, 0.1, groups=GROUPS).isnan().tolist() == [i in (1, 3, 4) for i in range(7)]
    for size in (1e-30, 1e30):
        levels = (0.0,) if passes else (0.0, 0.0)
        result = function(torch.full((7,), size), *levels, groups=GROUPS)
        torch.testing.assert_close(result, torch.full((7,), size), rtol=1e-6, atol=0)


def test_masks():
    x, mask = torch.randn(6, 7), torch.rand(6, 7) < 0.6
    result = SF.group_softshrink(x, 0.7, groups=GROUPS, mask=mask, zero_other=True)
    expected = by_hand(torch.where(mask, x, 0), (0.7, 0.7))
    expected[:, FREE] = 0
    torch.testing.assert_close(result, expected)


def test_modules_vmap_and_compile():
    layer = sa.nn.GroupSoftshrink(0.4, True, num_parameters=2, channel_dim=-1, groups=GROUPS)
    x = torch.randn(9, 7)
    torch.testing.assert_close(layer(x), by_hand(x, (0.4, 0.4)))
    assert "2 groups of indices" in repr(layer)
    assert copy.deepcopy(layer)(x).equal(layer(x))
    layer.init_from(torch.randn(4000, 7), sparsity=0.5)
    dead = (layer(torch.randn(4000, 7))[:, [0, 3]] == 0).double().mean(0)
    torch.testing.assert_close(dead, torch.full((2,), 0.5).double(), rtol=0, atol=0.05)
    torch.testing.assert_close(torch.func.vmap(layer)(x), layer(x))
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x))


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        ([[0, 1], [1, 2]], ValueError, "the index 1 twice: overlapping groups have no proximal"),
        (
            [[0, 7]],
            ValueError,
            r"the index 7, but dim -1 of the input of shape \(3, 7\) has",
        ),
        ([[0, -1]], ValueError, "the negative index -1; count from 0"),
        ([[0], []], ValueError, "no group may be empty"),
        ([], ValueError, "at least one group"),
        ([0, 1], TypeError, r"must be lists of indices, such as \[\[0, 1, 2\], \[3, 4\]\]"),
        ([[0.5]], TypeError, "must be lists of indices"),
        ([[True, False]], TypeError, "must be lists of indices"),
        ([torch.tensor([True, False])], TypeError, "must be lists of indices"),
        ("ab", TypeError, "must be lists of indices"),
    ],
)
def test_bad_lists(groups, error, message):
    for function in LISTED:
        with pytest.raises(error, match=message):
            function(torch.randn(3, 7), groups=groups)
    for penalty in (sa.GroupLasso, sa.SparseGroupLasso):
        with pytest.raises(error, match=message):
            penalty(1.0, groups=groups)(torch.randn(3, 7))


def test_sizes_and_lists_exclude_each_other():
    with pytest.raises(ValueError, match="groups= and group_size= exclude each other"):
        SF.group_softshrink(torch.randn(4), group_size=2, groups=[[0, 1]])
    with pytest.raises(ValueError, match="groups= and group_size= exclude each other"):
        sa.nn.SparseGroupSoftshrink(group_size=2, groups=[[0, 1]])
    with pytest.raises(ValueError, match="groups= needs an input with at least one dim"):
        SF.group_softshrink(torch.tensor(1.0), groups=[[0]])
