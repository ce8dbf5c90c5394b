"""The group thresholds beyond the contract: groups, their norms, and two λ."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import sparsact.functional as SF
from cases import DTYPES

GROUPINGS: list[dict[str, Any]] = [
    {"dim": -1},
    {"dim": 1},
    {"dim": (1, 2)},
    {"dim": (0, -1)},
    {"dim": -1, "group_size": 2},
    {"dim": 1, "group_size": 3},
    {"dim": -3, "group_size": 1},
]
groupings = pytest.mark.parametrize("grouping", GROUPINGS, ids=str)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))


def by_hand(x: Tensor, lambd: float, dim: Any, group_size: int | None = None) -> Tensor:
    """The published formula, group by group of a float64 tensor."""
    if group_size is not None:
        pieces = x.split(group_size, dim)
        return torch.cat([by_hand(piece, lambd, dim) for piece in pieces], dim)
    norm = x.square().sum(dim, keepdim=True).sqrt()
    return torch.where(norm > lambd, x * (1 - lambd / norm), 0.0)


@groupings
def test_matches_the_formula(grouping):
    x = torch.randn(5, 6, 4, dtype=torch.float64)
    result = SF.group_softshrink(x, 1.5, **grouping)
    torch.testing.assert_close(result, by_hand(x, 1.5, **grouping))
    soft = x.sign() * (x.abs() - 0.4).clamp(min=0)
    result = SF.sparse_group_softshrink(x, 0.4, 1.0, **grouping)
    torch.testing.assert_close(result, by_hand(soft, 1.0, **grouping))


@groupings
def test_gradcheck_with_both_thresholds(grouping):
    x = (torch.randn(3, 6, 4, dtype=torch.float64) * 2).requires_grad_()
    norm_shape = list(x.shape)
    for dim in [grouping["dim"]] if isinstance(grouping["dim"], int) else grouping["dim"]:
        size = grouping.get("group_size")
        norm_shape[dim] = norm_shape[dim] // size if size else 1
    lambd = (torch.rand(norm_shape, dtype=torch.float64) + 0.5).requires_grad_()
    entry = (torch.rand(4, dtype=torch.float64) / 2).requires_grad_()

    def group(x: Tensor, lambd: Tensor) -> Tensor:
        return SF.group_softshrink(x, lambd, **grouping)

    def sparse_group(x: Tensor, entry: Tensor, lambd: Tensor) -> Tensor:
        return SF.sparse_group_softshrink(x, entry, lambd, **grouping)

    assert torch.autograd.gradcheck(group, (x, lambd))
    assert torch.autograd.gradgradcheck(group, (x, lambd))
    assert torch.autograd.gradcheck(sparse_group, (x, entry, lambd))
    assert torch.autograd.gradgradcheck(sparse_group, (x, entry, lambd))


def test_jacobian_by_hand():
    x = torch.tensor([3.0, -4.0, 12.0], dtype=torch.float64)  # norm 13
    jacobian = torch.autograd.functional.jacobian(lambda x: SF.group_softshrink(x, 2.0), x)
    expected = (1 - 2 / 13) * torch.eye(3, dtype=torch.float64) + 2 * torch.outer(x, x) / 13**3
    torch.testing.assert_close(jacobian, expected)


@dtypes
def test_the_band_is_closed(dtype):
    x = torch.tensor([3.0, 4.0], dtype=dtype, requires_grad=True)
    for function in (
        lambda x: SF.group_softshrink(x, 5.0),
        lambda x: SF.sparse_group_softshrink(x, 0.0, 5.0),
        lambda x: SF.sparse_group_softshrink(x, 4.0, 0.0),
    ):
        result = function(x)
        (grad,) = torch.autograd.grad(result.sum(), x)
        assert (result == 0).all()
        assert (grad == 0).all()
    assert (SF.group_softshrink(x, 4.99) != 0).all()


@dtypes
@pytest.mark.parametrize("exponent", [-1, 1])
def test_the_norm_neither_overflows_nor_underflows(dtype, exponent):
    info = torch.finfo(dtype)
    unit = info.tiny * 8 if exponent < 0 else info.max / 8
    x = torch.tensor([3.0, 4.0], dtype=dtype) * unit
    got = SF.group_softshrink(x, float(5 * unit) / 2)
    torch.testing.assert_close(got / unit, torch.tensor([1.5, 2.0], dtype=dtype))
    assert SF.group_softshrink(x, 0.0).equal(x)


def test_zero_threshold_and_zero_group_give_no_nan():
    x = torch.zeros(2, 3, requires_grad=True)
    lambd = torch.zeros(2, 1, requires_grad=True)
    for result in (SF.group_softshrink(x, lambd), SF.sparse_group_softshrink(x, 0.0, lambd)):
        grads = torch.autograd.grad(result.sum(), [x, lambd])
        assert (result == 0).all()
        assert all((grad == 0).all() for grad in grads)


def test_special_values_stay_in_their_group():
    x = torch.tensor([[3.0, math.nan], [math.inf, 1.0], [-math.inf, 0.0], [3.0, 4.0]])
    result = SF.group_softshrink(x.requires_grad_(), 1.0)
    assert result[0].isnan().all()
    assert result[1:3].equal(x[1:3])
    torch.testing.assert_close(result[3], torch.tensor([2.4, 3.2]))
    (grad,) = torch.autograd.grad(result.sum(), x)
    assert grad[1:].isfinite().all()


def test_threshold_per_group():
    x = torch.randn(5, 6)
    lambd = torch.tensor([0.0, 1.0, 9.0])
    result = SF.group_softshrink(x, lambd, group_size=2)
    for index, level in enumerate(lambd):
        piece = slice(2 * index, 2 * index + 2)
        torch.testing.assert_close(result[:, piece], SF.group_softshrink(x[:, piece], float(level)))
    per_row = torch.rand(5, 1)
    torch.testing.assert_close(
        SF.group_softshrink(x, per_row),
        torch.stack([SF.group_softshrink(r, t.item()) for r, t in zip(x, per_row, strict=True)]),
    )
    over_rows = SF.group_softshrink(x.T, lambd[:, None], dim=0, group_size=2)
    torch.testing.assert_close(over_rows, result.T)


@pytest.mark.parametrize("group_size", [None, 3])
def test_keeps_channels_last(group_size):
    x = torch.randn(2, 6, 5, 5).to(memory_format=torch.channels_last).requires_grad_()
    result = SF.group_softshrink(x, 0.5, dim=1, group_size=group_size)
    assert result.is_contiguous(memory_format=torch.channels_last)
    (grad,) = torch.autograd.grad(result.sum(), x)
    assert grad.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("zero_other", [False, True])
def test_masked_entries_belong_to_no_group(zero_other):
    x = torch.randn(4, 6, requires_grad=True)
    mask = torch.arange(6) < 4
    poisoned = torch.where(mask, x, math.nan)
    for function in (SF.group_softshrink, SF.sparse_group_softshrink):
        result = function(poisoned, 0.3, mask=mask, zero_other=zero_other)
        torch.testing.assert_close(result[:, :4], function(x[:, :4], 0.3))
        assert result[:, 4:].isnan().all() if not zero_other else (result[:, 4:] == 0).all()
        (grad,) = torch.autograd.grad(function(x, 0.3, mask=mask).sum(), x)
        assert (grad[:, 4:] == 1).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_sums_the_gradient_of_the_threshold_in_float32(dtype):
    x = torch.full((4096, 2), 1.0, dtype=dtype)
    lambd = torch.tensor(0.5, requires_grad=True)
    (grad,) = torch.autograd.grad(SF.group_softshrink(x, lambd).float().sum(), lambd)
    torch.testing.assert_close(grad, torch.tensor(-4096 * math.sqrt(2)), rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: SF.group_softshrink(x, 0.5),
        lambda x: SF.group_softshrink(x, 0.5, group_size=4),
        lambda x: SF.sparse_group_softshrink(x, 0.1, 0.5),
    ],
)
def test_backward_keeps_only_the_output(function):
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    x = torch.randn(8, 8, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = function(x)
    assert [tensor.data_ptr() for tensor in saved] == [result.data_ptr()]


@pytest.mark.parametrize("form", ["group", "sparse"])
@pytest.mark.versions
def test_compiled_with_learned_thresholds(form):
    torch._dynamo.reset()
    x = torch.randn(6, 8, requires_grad=True)
    x.data[0, 0], x.data[1, 2], x.data[2] = math.nan, math.inf, 1e-30
    lambd = torch.rand(2).requires_grad_()

    def function(x: Tensor, lambd: Tensor) -> Tensor:
        if form == "group":
            return SF.group_softshrink(x, lambd, group_size=4)
        return SF.sparse_group_softshrink(x, 0.1, lambd, group_size=4)

    got, want = torch.compile(function, fullgraph=True)(x, lambd), function(x, lambd)
    torch.testing.assert_close(got, want, equal_nan=True)
    for a, b in zip(
        torch.autograd.grad(got[3:].sum(), [x, lambd]),
        torch.autograd.grad(want[3:].sum(), [x, lambd]),
        strict=True,
    ):
        torch.testing.assert_close(a, b, equal_nan=True)


@pytest.mark.versions
def test_vmap_over_the_threshold():
    x, lambd = torch.randn(5, 8), torch.rand(3)
    mapped = torch.func.vmap(lambda t: SF.group_softshrink(x, t, group_size=4))(lambd)
    want = torch.stack([SF.group_softshrink(x, t, group_size=4) for t in lambd])
    torch.testing.assert_close(mapped, want)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"group_size": 4}, r"group_size=4 does not divide dim -1 .* \(5, 6\)"),
        ({"group_size": 0}, "group_size=0 does not divide"),
        ({"dim": (0, 1), "group_size": 2}, "needs a single dim"),
        ({"dim": 2}, r"dim=2 does not exist .* \(5, 6\)"),
        ({"dim": ()}, "does not exist"),
        ({"dim": (1, -1)}, "contains a dim twice"),
        ({"lambd": torch.ones(6)}, r"lambd= of shape \(6,\) .* group norms \(5, 1\)"),
        ({"lambd": torch.ones(2, 5, 1)}, "does not broadcast to the shape of the group norms"),
        ({"lambd": -1.0}, "finite and not negative"),
        ({"lambd": math.nan}, "finite and not negative"),
    ],
)
def test_refuses(keywords, message):
    with pytest.raises(ValueError, match=message):
        SF.group_softshrink(torch.ones(5, 6), **keywords)
    if "lambd" in keywords:
        keywords = {"group_lambd": keywords["lambd"]}
        message = message.replace("lambd= of", "group_lambd= of")
    with pytest.raises(ValueError, match=message):
        SF.sparse_group_softshrink(torch.ones(5, 6), **keywords)
