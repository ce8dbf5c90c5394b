"""The tests that every module passes, for every row of the table."""

import copy
import io
import math
import pickle

import pytest
import torch
from torch import nn

import sparsact as sa
import sparsact.functional as SF
from cases import MODULES, by_name

modules = pytest.mark.parametrize("case", MODULES, ids=by_name)
X = torch.randn(16, 8, generator=torch.Generator().manual_seed(3))


@modules
def test_runs_and_prints(case):
    module = case.build()
    assert module(X).shape == X.shape
    assert type(module).__name__ in repr(module)


@modules
def test_state_dict_round_trip(case):
    module, fresh = case.build(), case.build()
    for parameter in module.parameters():
        nn.init.uniform_(parameter, 0.1, 0.9)
    fresh.load_state_dict(module.state_dict(), strict=True)
    assert fresh(X).equal(module(X))
    assert len(module.state_dict()) == len(list(module.parameters())) + case.buffers


@modules
def test_copies_and_pickles(case):
    module = case.build()
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert twin(X).equal(module(X))
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)


@modules
@pytest.mark.versions
def test_compiled_equals_eager(case):
    torch._dynamo.reset()
    module = case.build()
    compiled = torch.compile(module, fullgraph=True)
    x = X.clone().requires_grad_()
    torch.testing.assert_close(compiled(x), module(x))
    variables = [x, *module.parameters()]
    got = torch.autograd.grad(compiled(x).square().sum(), variables)
    want = torch.autograd.grad(module(x).square().sum(), variables)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)


@modules
@pytest.mark.versions
def test_exports(case):
    module = case.build().eval()
    program = torch.export.export(nn.Sequential(nn.Identity(), module), (X,))
    torch.testing.assert_close(program.module()(X), module(X))


@modules
def test_autocast(case):
    model = nn.Sequential(nn.Linear(8, 8), case.build(), nn.Linear(8, 2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = model(X)
    assert result.dtype == torch.bfloat16
    result.float().sum().backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.dtype == parameter.dtype


@pytest.mark.parametrize("cls", [sa.nn.Softshrink, sa.nn.Hardshrink, sa.nn.Clip])
def test_negative_lambda_is_used_as_its_magnitude(cls):
    module = cls(0.3, learnable=True)
    expected = module(X)
    with torch.no_grad():
        module.lambd.neg_()
    assert module(X).equal(expected)


def test_a_lambda_at_zero_can_leave_it():
    module = sa.nn.Softshrink(0.0, learnable=True)
    module(X.abs()).sum().backward()
    assert module.lambd.grad is not None
    assert module.lambd.grad.item() == -X.numel()


def test_per_channel_lambda_on_the_chosen_dim():
    lambd = torch.linspace(0.1, 0.8, 8)
    for dim, shape in [(1, (2, 8, 5, 5)), (-1, (2, 5, 8)), (-3, (8, 2, 2))]:
        x = torch.randn(shape)
        module = sa.nn.Softshrink(lambd, num_parameters=8, channel_dim=dim)
        moved = SF.softshrink(x.movedim(dim, -1), lambd).movedim(-1, dim)
        assert module(x).equal(moved)
        assert list(module.state_dict()) == ["lambd"]  # a tensor can come from data


def test_channel_errors_name_the_sizes():
    module = sa.nn.Softshrink(0.1, learnable=True, num_parameters=4)
    with pytest.raises(ValueError, match=r"num_parameters=4.*\(2, 8\).*size 8"):
        module(torch.zeros(2, 8))
    with pytest.raises(ValueError, match="channel_dim=1 does not exist"):
        module(torch.zeros(4))
    with pytest.raises(ValueError, match="num_parameters"):
        sa.nn.Softshrink(0.1, num_parameters=0)
    with pytest.raises(ValueError, match="does not match"):
        sa.nn.Softshrink(torch.ones(3), num_parameters=4)


def test_a_fixed_float_with_several_parameters_fits_its_channels():
    module = sa.nn.Softshrink(0.3, num_parameters=8, channel_dim=-1)
    assert module(X).equal(SF.softshrink(X, torch.tensor(0.3)))
    assert list(module.state_dict()) == ["lambd"]  # to_empty() would lose it
    with pytest.raises(ValueError, match="num_parameters=8"):
        module(X[:, :4])


def test_a_learned_upper_below_lambda_acts_as_lambda():
    module = sa.nn.Firmshrink(0.5, learnable=True, upper=1.0)
    assert module(X).equal(SF.firmshrink(X, 0.5, 1.0))
    with torch.no_grad():
        module.upper.fill_(0.1)
    assert module(X).equal(SF.hardshrink(X, 0.5))
    for bad in (0.4, float("nan")):
        with pytest.raises(ValueError, match="upper >= lambd"):
            sa.nn.Firmshrink(0.5, upper=bad)


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (sa.nn.Softshrink(0.5, sides="negative", zero_other=True), "sides='negative', zero_other"),
        (sa.nn.Hardshrink(0.5, learnable=True, kernel="triangle"), "0.05, kernel='triangle'"),
        (sa.nn.JumpReLU(0.25, learnable=True), "lambd=0.25, learnable=True, bandwidth=0.05"),
        (sa.nn.Firmshrink(0.5, upper=math.inf), "lambd=0.5, upper=inf"),
        (sa.nn.SCAD(0.5), "lambd=0.5, a=3.7"),
        (sa.nn.GroupSoftshrink(0.5, dim=(2, 3)), "dim=(2, 3)"),
        (sa.nn.SparseGroupSoftshrink(0.5, group_size=4), "group_lambd=0.5, dim=-1, group_size=4"),
        (sa.nn.BatchTopK(3), "k=3, dim=-1, by='value', momentum=0.01"),
        (sa.nn.SigmoidGate(0.5), "temperature=0.1"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_repr_shows_the_specific_arguments(module, text):
    assert text in repr(module)


def test_construction_checks_the_arguments_of_the_function():
    for build in (
        lambda: sa.nn.Softshrink(sides="left"),
        lambda: sa.nn.SCAD(a=2.0),
        lambda: sa.nn.SparseGroupSoftshrink(group_lambd=-1.0),
        lambda: sa.nn.Garrote(-1.0),
    ):
        with pytest.raises(ValueError, match=r"sides|above 2|not negative"):
            build()


@pytest.mark.parametrize("bad", [-0.1, float("nan"), float("inf")])
def test_construction_refuses_a_bad_lambda(bad):
    with pytest.raises(ValueError, match="finite and not negative"):
        sa.nn.Softshrink(bad)


def test_a_network_with_softshrink_as_its_activation():
    """A network with softshrink as its activation, 10 → 5."""
    model = nn.Sequential(nn.Linear(10, 5), sa.nn.Softshrink(0.5))
    x = torch.randn(3, 10)
    assert model(x).equal(SF.softshrink(model[0](x), 0.5))


def test_activity_penalty_equals_adding_to_the_loss():
    x = torch.randn(6, 4, requires_grad=True)
    for reduction, size in [("sum", 1), ("mean", 24), ("batch_mean", 6), ("token_mean", 6)]:
        layer = sa.nn.ActivityPenalty(sa.L1(0.3), reduction)
        (got,) = torch.autograd.grad(layer(x).square().sum(), x)
        (want,) = torch.autograd.grad(x.square().sum() + 0.3 * x.abs().sum() / size, x)
        torch.testing.assert_close(got, want)


def test_activity_penalty_does_nothing_in_eval_mode():
    layer = sa.nn.ActivityPenalty(sa.L1(0.3)).eval()
    x = torch.randn(6, 4, requires_grad=True)
    assert layer(x) is x
    with pytest.raises(ValueError, match="reduction"):
        sa.nn.ActivityPenalty(sa.L1(0.3), "batch")


@pytest.mark.parametrize(
    "module",
    [
        sa.nn.Softshrink(0.3),
        sa.nn.Hardshrink(0.3),
        sa.nn.Firmshrink(0.3),
        sa.nn.SCAD(0.3),
        sa.nn.Garrote(0.3),
        sa.nn.Halfshrink(0.3),
        sa.nn.GroupSoftshrink(0.3, group_size=4),
        sa.nn.SparseGroupSoftshrink(0.1, group_lambd=0.5),
        sa.nn.TopK(3),
        sa.nn.BatchTopK(3).eval(),
        sa.nn.JumpReLU(0.3),
        sa.nn.Clip(0.3),
        sa.nn.SigmoidGate(0.3),
        sa.nn.Softplus(2.0),
    ],
    ids=lambda module: type(module).__name__,
)
@pytest.mark.filterwarnings("ignore")  # the exporter's own dependencies warn
def test_onnx(module):
    reference = pytest.importorskip("onnx.reference")
    program = torch.onnx.export(module, (X,), dynamo=True, verbose=False)
    session = reference.ReferenceEvaluator(program.model_proto)
    (got,) = session.run(None, {session.input_names[0]: X.numpy()})
    torch.testing.assert_close(torch.from_numpy(got), module(X))
