"""Stochastic gates: their law, their gradients, and training that closes gates."""

import copy
import math
import pickle

import pytest
import torch
from scipy.stats import norm
from torch import fx, nn

import sparsact as sa

# raised by torch.func, about its own code
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is")
KINDS = [sa.nn.HardConcrete, sa.nn.GaussianGate]
kinds = pytest.mark.parametrize("kind", KINDS)


@kinds
@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_share_of_open_gates(kind, probability):
    gate = kind(200_000, open_probability=probability)
    torch.testing.assert_close(
        gate.open_probabilities(), torch.full((200_000,), probability), atol=1e-5, rtol=0
    )
    gates = gate.gates()
    assert float((gates != 0).double().mean()) == pytest.approx(probability, abs=0.005)
    assert gates.min() == 0
    assert gates.max() <= 1
    assert (gates == 1).any()


def test_laws_of_the_papers():
    """The distribution function of the stretched gate at a few points."""
    gate = sa.nn.HardConcrete(200_000, open_probability=0.6)
    log_alpha = gate.location[0].item()
    draws = gate.gates()
    for z in (0.2, 0.5, 0.9):
        s = (z + 0.1) / 1.2
        below = 1 / (1 + math.exp(-(math.log(s / (1 - s)) * 2 / 3 - log_alpha)))
        assert float((draws <= z).double().mean()) == pytest.approx(below, abs=0.005)
    gauss = sa.nn.GaussianGate(200_000, sigma=0.5)
    assert gauss.location[0].item() == pytest.approx(0.5)
    for z in (0.2, 0.5, 0.9):
        below = norm.cdf((z - 0.5) / 0.5)
        assert float((gauss.gates() <= z).double().mean()) == pytest.approx(below, abs=0.005)


@kinds
def test_evaluation_is_deterministic_and_training_is_not(kind):
    gate, x = kind(6, open_probability=0.5), torch.randn(4, 6)
    assert not gate(x).equal(gate(x))
    gate.eval()
    assert gate(x).equal(gate(x))
    torch.testing.assert_close(gate(x), x * gate.gates())
    twin = pickle.loads(pickle.dumps(copy.deepcopy(gate)))
    fresh = kind(6).eval()
    fresh.load_state_dict(gate.state_dict())
    for same in (twin, fresh):
        assert same(x).equal(gate(x))
    assert "num_parameters=6" in repr(gate)


@kinds
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtypes(kind, dtype):
    gate, x = kind(6).eval(), torch.randn(4, 6).to(dtype).requires_grad_()
    result = gate(x)
    assert result.dtype == dtype
    wide = x.detach().double() * gate.gates().double()
    torch.testing.assert_close(result, wide.to(dtype))
    result.float().sum().backward()
    assert x.grad.dtype == dtype
    assert gate.location.grad.isfinite().all()


@kinds
def test_channels_and_complex_inputs(kind):
    gate = kind(3, channel_dim=1).eval()
    with torch.no_grad():
        gate.location.copy_(torch.tensor([-9.0, 0.3, 9.0]))
    gates = gate.gates()
    assert gates[0] == 0
    assert gates[2] == 1
    x = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(gate(x), x * gates[:, None, None])
    z = torch.randn(2, 3, dtype=torch.complex64)
    torch.testing.assert_close(gate(z), z * gates)
    layer = kind(1).eval()
    torch.testing.assert_close(layer(x), x * layer.gates())


@kinds
def test_gradients(kind):
    gate = kind(5).double()
    with torch.no_grad():
        gate.location.copy_(torch.linspace(-1, 1, 5))

    def expected(location):
        return torch.func.functional_call(Expected(gate), {"gate.location": location}, ())

    location = gate.location.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(expected, location)
    gate.eval()
    x = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    away = torch.tensor([0.2, 0.4, 0.5, 0.6, 0.8], dtype=torch.float64, requires_grad=True)
    run = lambda x, location: torch.func.functional_call(gate, {"location": location}, (x,))  # noqa: E731
    assert torch.autograd.gradcheck(run, (x, away))
    _, tangent = torch.func.jvp(gate, (x.detach(),), (x.detach().cos(),))
    torch.testing.assert_close(tangent, x.detach().cos() * gate.gates())


class Expected(nn.Module):
    def __init__(self, gate):
        super().__init__()
        self.gate = gate

    def forward(self):
        return self.gate.expected_l0()


@kinds
@pytest.mark.versions
def test_compiled_exported_and_traced(kind):
    torch._dynamo.reset()
    gate, x = kind(6).eval(), torch.randn(4, 6)
    torch.testing.assert_close(torch.compile(gate, fullgraph=True)(x), gate(x))
    program = torch.export.export(nn.Sequential(gate), (x,))
    torch.testing.assert_close(program.module()(x), gate(x))
    model = nn.Sequential(nn.Linear(6, 6), gate)
    traced = fx.symbolic_trace(model)
    assert [node.op for node in traced.graph.nodes].count("call_module") == 2
    torch.testing.assert_close(traced(x), model(x))


@kinds
def test_training_closes_the_gates_of_features_without_influence(kind):
    x = torch.randn(300, 8)
    y = x[:, :2] @ torch.tensor([2.0, -1.0])
    gate = kind(8)
    model = nn.Sequential(gate, nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(600):
        optimizer.zero_grad()
        loss = (model(x)[:, 0] - y).square().mean() + 0.1 * gate.expected_l0()
        loss.backward()
        optimizer.step()
    gate.eval()
    assert (gate.gates() != 0).tolist() == [True] * 2 + [False] * 6


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: sa.nn.HardConcrete(0), "num_parameters= must be at least 1"),
        (lambda: sa.nn.HardConcrete(2, open_probability=1.0), "open_probability= must lie"),
        (lambda: sa.nn.GaussianGate(2, open_probability=0.0), "open_probability= must lie"),
        (lambda: sa.nn.HardConcrete(2, temperature=0.0), "temperature= must be positive"),
        (lambda: sa.nn.HardConcrete(2, stretch=(0.0, 1.1)), "stretch= must reach"),
        (lambda: sa.nn.GaussianGate(2, sigma=-1.0), "sigma= must be positive"),
        (lambda: sa.nn.GaussianGate(2)(torch.ones(3)), "num_parameters=2 does not fit dim -1"),
    ],
)
def test_bad_arguments(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@kinds
def test_refuses_integers(kind):
    with pytest.raises(TypeError, match="expects a floating-point tensor"):
        kind(3)(torch.ones(3, dtype=torch.int64))
