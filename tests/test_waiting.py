"""What makes the host wait for a device in one step of training."""

import pytest
import torch
from torch import nn

import sparsact as sa
from cases import MODULES, PENALTIES, by_name
from sae_kind_cases import KIND_CASES
from second_device import DEVICE, DeviceAccelerator, SecondDevice


def model_on_the_device(act=None):
    layers = [nn.Linear(8, 8), act or sa.nn.Softshrink(0.1, learnable=True), nn.Linear(8, 3)]
    return nn.Sequential(*layers).to(DEVICE)


def waits_in_a_step(step, device, warm_up=1):
    """The operations that wait, by name, after `warm_up` steps."""
    for _ in range(warm_up):
        step()
    device.waits.clear()
    step()
    return dict(device.waits)


@pytest.mark.parametrize("case", MODULES, ids=by_name)
def test_a_threshold_never_waits(case):
    with SecondDevice() as device:
        module, x = case.build().to(DEVICE), torch.randn(3, 2, 8).to(DEVICE).requires_grad_()
        assert waits_in_a_step(lambda: module(x).square().sum().backward(), device) == {}


UPLOADS = {"OverlappingGroupLasso": {"_to_copy": 3}}
"""Its groups are lists of the host, which go to the device at each call."""


@pytest.mark.parametrize("case", PENALTIES, ids=by_name)
def test_a_penalty_on_activations_never_waits(case):
    with SecondDevice() as device:
        model, x = model_on_the_device(nn.Sigmoid()), torch.randn(5, 8).to(DEVICE)
        with sa.ActivationPenalty(model, {"1": case.penalty}) as penalty:
            step = lambda: (model(x).sum() + penalty()).backward()  # noqa: E731
            assert waits_in_a_step(step, device) == UPLOADS.get(case.name, {})


def test_the_meter_reads_its_samples_once_in_32_steps():
    with SecondDevice() as device:
        model, x = model_on_the_device(), torch.randn(5, 8).to(DEVICE)
        with sa.SparsityMeter(model, ["1"]) as meter:
            step = lambda: model(x).sum().backward()  # noqa: E731
            assert waits_in_a_step(step, device) == {}
            assert waits_in_a_step(step, device, 29) == {"_to_copy": 32}
            active = int((model[:2](x) != 0).sum())
        assert sum(meter.compute()["1"].histogram.counts) == 33 * active


def test_a_weight_penalty_never_waits():
    with SecondDevice() as device:
        model = model_on_the_device()
        penalty = sa.WeightPenalty(model, {"*.weight": sa.L1(0.1)})
        assert waits_in_a_step(lambda: penalty().backward(), device) == {}


@pytest.mark.parametrize("penalty", [sa.L1(0.1), sa.GroupLasso(0.1), sa.ElasticNet(0.1)])
@pytest.mark.parametrize("method", [torch.optim.SGD, torch.optim.Adam])
def test_a_proximal_step_waits_for_its_check_of_the_gradients(method, penalty):
    with SecondDevice() as device:
        model, x = model_on_the_device(), torch.randn(5, 8).to(DEVICE)
        optimizer = sa.optim.Proximal(
            method(model.parameters(), 0.01), model, {"*.weight": penalty}
        )

        def step():
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()

        assert waits_in_a_step(step, device) == {"_local_scalar_dense": 1}


@pytest.mark.parametrize("kind", KIND_CASES)
def test_a_step_of_an_autoencoder(kind):
    with SecondDevice() as device:
        sae = sa.SparseAutoencoder(sa.SAEConfig(8, 24, kind, k=4)).to(DEVICE)
        trainer = sa.SAETrainer(sae, accelerator=DeviceAccelerator(DEVICE))
        x = torch.randn(64, 8).to(DEVICE)
        # whether the batch is finite, and the statistics; whether there are dead latents, and the
        # norm of the gradient
        waits = {"_to_copy": 2, "_local_scalar_dense": 2}
        assert waits_in_a_step(lambda: trainer.step(x), device) == waits
