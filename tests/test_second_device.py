"""The second device of the tests finds what it is there to find."""

import pytest
import torch

import sparsact as sa
from second_device import DEVICE, MixedDevicesError, SecondDevice, to_second_device
from sparsact import kernels
from sparsact.kernels import definition
from sparsact.thresholds.fused_dispatch import fuse_from

VALUES = torch.arange(6.0).reshape(2, 3)


def centred(x):
    """A fault: the result of `zeros` is on the CPU wherever `x` is."""
    return x - torch.zeros(x.shape)


def permuted(x):
    """A fault: on a GPU, the index would be moved without a word."""
    return x[torch.randperm(len(x))]


def drawn(x):
    """A fault: a generator of the CPU for numbers of another device."""
    return torch.rand(3, generator=torch.Generator(), device=x.device)


@pytest.mark.parametrize("fault", [centred, permuted, drawn])
def test_a_planted_fault_is_caught(fault):
    fault(VALUES)
    with SecondDevice(), pytest.raises(MixedDevicesError):
        fault(to_second_device(VALUES))


def test_a_fault_in_backward_is_caught():
    class Scaled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, grad):
            return grad * torch.full((3,), 2.0)

    with SecondDevice(), pytest.raises(MixedDevicesError):
        Scaled.apply(to_second_device(VALUES).requires_grad_()).sum().backward()


def test_a_scalar_of_the_cpu_is_no_mixture():
    with SecondDevice():
        x = to_second_device(VALUES)
        assert torch.equal((x * torch.tensor(2.0)).cpu(), 2 * VALUES)
        with pytest.raises(MixedDevicesError):
            torch.tensor(2.0).add_(x.sum())


@pytest.mark.parametrize(
    "waiting",
    [
        lambda x: x.sum().item(),
        lambda x: float(x.sum()),
        lambda x: bool((x > 0).any()),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.cpu(),
        lambda x: x.tolist(),
        lambda x: torch.tensor([1.0], device=x.device),
        lambda x: torch.zeros_like(x).copy_(VALUES),
    ],
)
def test_what_waits_is_counted(waiting):
    with SecondDevice() as device:
        x = to_second_device(VALUES)
        device.waits.clear()
        (x * 2 + torch.ones_like(x)).clamp(min=3).sum()
        assert not device.waits
        waiting(x)
        assert device.waits.total() == 1


def test_numpy_takes_no_tensor_of_the_device():
    with SecondDevice(), pytest.raises(RuntimeError, match="not supported"):
        to_second_device(VALUES).numpy()


def test_a_module_trains_there_as_on_the_cpu():
    torch.manual_seed(0)
    model, x = torch.nn.Linear(3, 2), VALUES
    copy = torch.nn.Linear(3, 2)
    copy.load_state_dict(model.state_dict())
    optimizer = torch.optim.Adam(model.parameters())
    model(x).square().sum().backward()
    optimizer.step()
    with SecondDevice():
        copy.to(DEVICE)
        optimizer = torch.optim.Adam(copy.parameters(), fused=True)
        copy(to_second_device(x)).square().sum().backward()
        optimizer.step()
        assert copy.weight.device == DEVICE
        torch.testing.assert_close(copy.weight.detach().cpu(), model.weight.detach())


@pytest.mark.parametrize("device", ["MPS", "XPU", "HPU", "XLA", "PrivateUse1", "Lazy"])
@pytest.mark.parametrize("name", kernels.backends())
def test_another_device_runs_the_reference(name, device):
    operation = f"sparsact::{name}"
    assert not torch._C._dispatch_has_kernel_for_dispatch_key(operation, device)
    assert torch._C._dispatch_has_kernel_for_dispatch_key(operation, "CompositeExplicitAutograd")


def test_another_device_does_not_enter_a_kernel_of_the_cpu(monkeypatch):
    def fail(*names):
        raise AssertionError(names)

    monkeypatch.setattr(definition, "kernel", fail)
    monkeypatch.setattr(definition.library, "is_built", lambda: True)
    x, weight = torch.randn(4, 8), torch.randn(8, 16)
    with pytest.raises(AssertionError):
        kernels.linear_topk(x, weight.t().contiguous(), None, 2)
    with SecondDevice():
        x, weight = to_second_device((x, weight))
        assert kernels.linear_topk(x, weight.t().contiguous(), None, 2)[0].device == DEVICE
        assert kernels.gather_linear(x[:1], weight, 0.5).device == DEVICE
        with fuse_from(0):
            assert sa.functional.softshrink(x, 0.5).device == DEVICE
