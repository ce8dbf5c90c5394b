"""Masks exclude padding from penalties."""

import pytest
import torch
from torch import nn

import sparsact as sa
from cases import PENALTIES, by_name

MASK = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0]])
X = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(5))


class Sequence(nn.Module):
    def __init__(self):
        super().__init__()
        self.act = nn.Sigmoid()

    def forward(self, x, attention_mask=None):
        return self.act(x)


def value(case_penalty, reduction, mask, x=X):
    model = Sequence()
    penalty = sa.ActivationPenalty(model, {"act": case_penalty}, reduction)
    penalty.set_mask(mask)
    x = x.clone().requires_grad_()
    model(x)
    result = penalty()
    (grad,) = torch.autograd.grad(result, x)
    return result.detach(), grad


@pytest.mark.parametrize("case", PENALTIES, ids=by_name)
def test_padding_has_no_influence(case):
    other_padding = torch.where(MASK[..., None] == 1, X, 7.0)
    for reduction in ("sum", "mean", "batch_mean", "token_mean"):
        got, grad = value(case.penalty, reduction, MASK)
        again, _ = value(case.penalty, reduction, MASK.bool(), other_padding)
        without, _ = value(case.penalty, reduction, None)
        torch.testing.assert_close(got, again)
        assert not torch.isclose(got, without)
        assert (grad[MASK == 0] == 0).all()


@pytest.mark.parametrize(
    ("reduction", "size"), [("sum", 1), ("mean", 5 * 6), ("batch_mean", 2), ("token_mean", 5)]
)
def test_divisor_of_every_reduction(reduction, size):
    kept = X.sigmoid()[MASK.bool()]
    got, _ = value(sa.L1(0.3), reduction, MASK)
    torch.testing.assert_close(got, 0.3 * kept.sum() / size)


def test_means_over_the_kept_positions_only():
    kept = X.sigmoid()[MASK.bool()]
    got, _ = value(sa.KLSparsity(0.3), "sum", MASK)
    torch.testing.assert_close(got, sa.KLSparsity(0.3)(kept))
    got, _ = value(sa.Hoyer(0.3, dim=-1), "sum", MASK)
    torch.testing.assert_close(got, sa.Hoyer(0.3)(kept))


def test_a_callable_mask_reads_the_inputs_of_the_model():
    model = Sequence()
    penalty = sa.ActivationPenalty(model, {"act": sa.L1(1.0)}, "token_mean")
    penalty.set_mask(lambda x, attention_mask=None: attention_mask)
    for mask in (MASK, MASK.flip(1), None):
        model(X, attention_mask=mask)
        kept = X.sigmoid() if mask is None else X.sigmoid()[mask.bool()]
        positions = 8 if mask is None else 5
        assert penalty().item() == pytest.approx(kept.sum().item() / positions)


def test_a_mask_stays_until_it_is_replaced():
    model = Sequence()
    penalty = sa.ActivationPenalty(model, {"act": sa.L1(1.0)}, "sum")
    penalty.set_mask(MASK)
    for _ in range(2):
        model(X)
        assert penalty().item() == pytest.approx(X.sigmoid()[MASK.bool()].sum().item())
    penalty.set_mask(None)
    model(X)
    assert penalty().item() == pytest.approx(X.sigmoid().sum().item())


def test_everything_masked_costs_nothing():
    for reduction in ("mean", "token_mean"):
        got, grad = value(sa.L1(1.0), reduction, torch.zeros(2, 4).bool())
        assert got.item() == 0
        assert (grad == 0).all()


def test_bad_masks():
    model = Sequence()
    penalty = sa.ActivationPenalty(model, {"act": sa.L1(1.0)})
    with pytest.raises(TypeError, match=r"True or 1 at the positions to keep, got torch\.float32"):
        penalty.set_mask(MASK.float())
    with pytest.raises(TypeError, match="a tensor or a callable, got list"):
        penalty.set_mask([1, 0])
    penalty.set_mask(MASK.T)
    with pytest.raises(ValueError, match=r"at 'act': mask= of shape \(4, 2\).*\(2, 4, 6\)"):
        model(X)


@pytest.mark.parametrize("channels", [None, 6])
def test_a_learned_threshold_learns_from_kept_positions_only(channels):
    """Padding is 0, which lies within the window of a small one."""
    lambd = 0.01 if channels is None else torch.full((channels,), 0.01)
    x = 0.02 * X
    thetas = []
    for mask, inputs in ((MASK, x), (None, x[MASK.bool()].reshape(1, 5, 6))):
        act = sa.nn.JumpReLU(lambd, learnable=True, num_parameters=channels or 1, channel_dim=-1)
        model = nn.Sequential(act)
        penalty = sa.ActivationPenalty(model, {"0": sa.L0(1.0, threshold=act)}, "sum", on="input")
        penalty.set_mask(mask)
        model(inputs)
        result = penalty()
        result.backward()
        thetas.append((result.detach(), act.lambd.grad))
    torch.testing.assert_close(thetas[0], thetas[1])
    assert thetas[0][1].any()
