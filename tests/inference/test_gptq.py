"""Rounding in turn, against a second way to write it and against rounding each weight alone."""

import pytest
import torch
from torch import nn

import sparsact as sa
from sparsact._common.errors import InputError
from sparsact.inference import SparseLinear
from sparsact.inference.gptq import rounded_in_turn
from sparsact.inference.int4_weights import quantise
from sparsact.kernels.reference.int4 import unpack


def whole_numbers(rows):
    return rows.round().to(torch.int8), rows.round()


def correlated(inputs, tokens=4096, seed=0):
    mix = torch.randn(inputs // 4, inputs, generator=torch.Generator().manual_seed(100))
    generator = torch.Generator().manual_seed(seed)
    noise = 0.3 * torch.randn(tokens, inputs, generator=generator)
    return torch.randn(tokens, inputs // 4, generator=generator) @ mix + noise


def one_by_one(weight, moments, damping=0.01):
    """The published step with the inverse of the remaining moments written out each time."""
    weight, moments = weight.double().clone(), moments.double()
    damped = moments + damping * moments.diagonal().mean() * torch.eye(len(moments))
    rounded = torch.zeros_like(weight)
    left = moments.diagonal().argsort(descending=True, stable=True).tolist()
    while left:
        first, inverse = left[0], torch.linalg.inv(damped[left][:, left])
        rounded[first] = weight[first].round()
        error = (weight[first] - rounded[first]) / inverse[0, 0]
        weight[left] -= torch.outer(inverse[0], error)
        left = left[1:]
    return rounded


@pytest.mark.parametrize("inputs", [1, 4, 50, 200])
def test_against_the_step_written_out(inputs):
    x = correlated(max(4, inputs))[:, :inputs]
    moments = x.t() @ x / len(x)
    weight = 3 * torch.randn(inputs, 24, generator=torch.Generator().manual_seed(1))
    actual = rounded_in_turn(weight, moments, whole_numbers)
    expected = one_by_one(weight, moments)
    # float32 beside float64: a weight halfway between two numbers may go the other way
    assert (actual != expected).double().mean() < 0.02


def test_independent_inputs_are_rounded_alone():
    weight = 3 * torch.randn(20, 8)
    moments = torch.diag(torch.rand(20) + 0.5)
    assert torch.equal(rounded_in_turn(weight, moments, whole_numbers), weight.round())


def test_an_input_that_never_occurs():
    x = correlated(16)
    x[:, 3] = 0
    weight = torch.randn(16, 40)
    packed, scale = quantise(weight, x.t() @ x / len(x))
    assert (unpack(packed, 40) * scale).isfinite().all()
    packed, scale = quantise(weight, torch.zeros(16, 16))
    nearest, _ = quantise(weight)
    assert torch.equal(packed, nearest)


@pytest.mark.parametrize("moments", [torch.eye(3), torch.full((4, 4), torch.nan)], ids=["3", "NaN"])
def test_wrong_moments(moments):
    with pytest.raises(InputError, match="input_moments= must be finite and of shape"):
        quantise(torch.randn(4, 5), moments)


def test_a_layer_of_another_dtype_refuses_moments():
    with pytest.raises(InputError, match="input_moments= is for dtype='int4'"):
        SparseLinear(nn.Linear(3, 2), 0.1, dtype="int8", input_moments=torch.eye(3))


def model_and_inputs():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 40))
    return model, [correlated(64, 512, seed) for seed in range(4)], correlated(64, 512, 9)


@pytest.mark.parametrize("compensated", [False, True])
def test_a_model_is_nearer_to_the_unrounded_one(compensated):
    model, batches, held_out = model_and_inputs()
    plan = sa.calibrate(model, batches, 0.4, score="weight")
    if compensated:
        plan = sa.compensate(plan, model, batches, rank=8)
    with plan.applied(model), torch.no_grad():
        expected = model(held_out)

    def error(**options):
        again, _, _ = model_and_inputs()
        with torch.no_grad():
            output = sa.sparsify(again, plan, "int4", **options)(held_out)
        return float((output - expected).norm() / expected.norm())

    assert error(batches=iter(batches)) < 0.6 * error()


def test_what_sparsify_refuses():
    model, batches, _ = model_and_inputs()
    plan = sa.calibrate(model, batches, 0.4, score="weight")
    with pytest.raises(InputError, match="batches= are for dtype='int4'"):
        sa.sparsify(model, plan, "int8", batches=batches)
    with pytest.raises(InputError, match="no batches"):
        sa.sparsify(model, plan, "int4", batches=[])
    assert type(model[0]) is nn.Linear
    assert model.training
