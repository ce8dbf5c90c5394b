"""Coefficients that change with the step."""

import io
import math
from dataclasses import fields

import pytest
import torch
from torch import nn

import sparsact as sa
from cases import PENALTIES, by_name

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(5))


def test_linear_warmup():
    schedule = sa.LinearWarmup(0.8, steps=4)
    assert [schedule(k) for k in range(6)] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 0.8])


def test_cosine():
    schedule = sa.CosineSchedule(0.2, 1.0, steps=4)
    expected = [0.6 - 0.4 * math.cos(math.pi * k / 4) for k in range(5)]
    assert [schedule(k) for k in range(5)] == pytest.approx(expected)
    assert schedule(99) == pytest.approx(1.0)
    assert sa.CosineSchedule(1.0, 0.2, steps=2)(1) == pytest.approx(0.6)


@pytest.mark.parametrize(
    "build",
    [
        lambda: sa.LinearWarmup(0.1, steps=0),
        lambda: sa.LinearWarmup(-0.1, steps=3),
        lambda: sa.CosineSchedule(0.1, math.nan, steps=3),
    ],
)
def test_refuses_a_bad_schedule(build):
    with pytest.raises(ValueError, match=r"steps= must be|must be finite"):
        build()


@pytest.mark.parametrize("case", PENALTIES, ids=by_name)
def test_every_penalty_takes_a_schedule(case):
    first = fields(case.penalty)[0].name
    x = case.domain(torch.randn(6, 8))
    scheduled = case.penalty.with_coefficient(lambda step: 0.1 * step)
    torch.testing.assert_close(scheduled.at(3)(x), case.penalty.with_coefficient(0.1 * 3)(x))
    assert getattr(scheduled.at(3), first) == pytest.approx(0.3)
    assert case.penalty.at(3) is case.penalty
    with pytest.raises(TypeError, match=r"penalty\.at\(step\)"):
        scheduled(x)
    if case.proximal:
        with pytest.raises(TypeError, match=r"penalty\.at\(step\)"):
            scheduled.prox(x, 0.1)


def test_a_schedule_that_turns_negative_is_refused_at_that_step():
    model = nn.Sequential(nn.Tanh())
    penalty = sa.ActivationPenalty(model, {"0": sa.L1(lambda step: 1.0 - step)})
    penalty.step()
    with pytest.raises(ValueError, match="coef= must be finite and not negative, got -1"):
        penalty.step()


@pytest.mark.parametrize("mode", ["loss", "inject"])
def test_the_coefficient_follows_its_schedule(mode):
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    spec = {"1": sa.L1(sa.LinearWarmup(1.0, steps=2)), "2": sa.L2(0.5)}
    penalty = sa.ActivationPenalty(model, spec, "sum", mode=mode)
    for level in (0.0, 0.5, 1.0, 1.0):
        assert penalty.coefficients == pytest.approx({"1": level, "2": 0.5})
        model.zero_grad()
        out = model(X)
        value = penalty()
        (out.sum() + value).backward()
        got = [p.grad for p in model.parameters()]
        hidden = model[0](X).tanh()
        last = nn.functional.linear(hidden, model[2].weight, model[2].bias)
        want = level * hidden.abs().sum() + 0.5 * last.square().sum()
        torch.testing.assert_close(value, want, check_dtype=False)
        grads = torch.autograd.grad(want + last.sum(), list(model.parameters()))
        for a, b in zip(got, grads, strict=True):
            torch.testing.assert_close(a, b)
        penalty.step()


def test_state_dict_round_trip():
    def build():
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh())
        return model, sa.ActivationPenalty(model, {"1": sa.L1(sa.LinearWarmup(1.0, steps=8))})

    _, first = build()
    for _ in range(3):
        first.step()
    state = torch.load(_saved(first.state_dict()), weights_only=True)
    _, second = build()
    second.load_state_dict(state)
    assert second.coefficients == first.coefficients == pytest.approx({"1": 3 / 8})
    second.step()
    assert second.coefficients == pytest.approx({"1": 0.5})
    other = sa.ActivationPenalty(nn.Sequential(nn.Tanh()), {"0": sa.L1(0.1)})
    with pytest.raises(ValueError, match=r"penalties on \['1'\], but these are on \['0'\]"):
        other.load_state_dict(state)


def _saved(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return buffer


def test_weight_penalty_with_a_schedule():
    model = nn.Linear(3, 2)
    penalty = sa.WeightPenalty(model, {"weight": sa.L1(sa.LinearWarmup(1.0, steps=2))})
    assert penalty().item() == 0
    penalty.step()
    torch.testing.assert_close(penalty(), 0.5 * model.weight.abs().sum())
    fresh = sa.WeightPenalty(model, {"weight": sa.L1(sa.LinearWarmup(1.0, steps=2))})
    fresh.load_state_dict(penalty.state_dict())
    torch.testing.assert_close(fresh(), penalty())
