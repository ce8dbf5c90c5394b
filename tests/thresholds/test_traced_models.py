"""Modules and functions under ``torch.fx`` and TorchScript."""

import copy
import io
import pickle

import pytest
import torch
from torch import Tensor, fx, nn

import sparsact as sa
import sparsact.functional as SF
from cases import MODULES, PLAIN, THRESHOLDS, PlainCase, by_name

pytestmark = pytest.mark.versions
modules = pytest.mark.parametrize("case", MODULES, ids=by_name)
X = torch.randn(16, 8, generator=torch.Generator().manual_seed(3))


class Block(nn.Module):
    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x=self.linear(x)) + self.act(x)


@modules
def test_modules_are_leaves_of_torch_fx(case):
    model = nn.Sequential(Block(case.build()), nn.Linear(8, 3)).eval()
    traced = fx.symbolic_trace(model)
    calls = [node.target for node in traced.graph.nodes if node.op == "call_module"]
    assert calls == ["0.linear", "0.act", "0.act", "1"]
    traced.graph.lint()
    expected = model(X)
    for twin in (traced, copy.deepcopy(traced), pickle.loads(pickle.dumps(traced))):
        assert twin(X).equal(expected)
    got = torch.autograd.grad(traced(X).square().sum(), list(traced.parameters()))
    want = torch.autograd.grad(model(X).square().sum(), list(model.parameters()))
    for a, b in zip(got, want, strict=True):
        assert a.equal(b)


def test_a_mask_and_a_retraced_model():
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = sa.nn.Softshrink(0.3, learnable=True, num_parameters=8, channel_dim=-1)

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return self.act(x, mask=mask)

    model, mask = Masked(), X > 0
    traced = fx.symbolic_trace(fx.symbolic_trace(model))
    assert traced(X, mask).equal(model(X, mask))


@pytest.mark.parametrize("case", [*THRESHOLDS, *PLAIN], ids=by_name)
def test_functions_are_single_calls(case):
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.level = nn.Parameter(torch.tensor(0.4))

        def forward(self, x: Tensor) -> Tensor:
            if isinstance(case, PlainCase):
                return case.function(x)
            return case(x, self.level)

    model = Model()
    traced = fx.symbolic_trace(model)
    calls = [node for node in traced.graph.nodes if node.op == "call_function"]
    assert len(calls) == 1
    assert calls[0].target.__module__.startswith("sparsact")
    assert traced(X).equal(model(X))
    assert pickle.loads(pickle.dumps(traced))(X).equal(model(X))


def test_features_can_be_extracted():
    extraction = pytest.importorskip("torchvision.models.feature_extraction")
    model = nn.Sequential(nn.Linear(8, 8), sa.nn.Softshrink(0.3), nn.Linear(8, 3)).eval()
    extractor = extraction.create_feature_extractor(model, ["1"])
    assert extractor(X)["1"].equal(model[:2](X))


def test_a_threshold_alone_is_refused():
    with pytest.raises(TypeError, match=r"traces Softshrink only as a part of a model.*Sequential"):
        fx.symbolic_trace(sa.nn.Softshrink(0.3))


@modules
@pytest.mark.filterwarnings("ignore:.torch.jit")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_torchscript(case):
    model = Block(case.build()).eval()
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(model, X), file)
    file.seek(0)
    loaded = torch.jit.load(file)
    torch.testing.assert_close(loaded(X), model(X))
    with pytest.raises(TypeError, match=r"torch.jit.script does not support .*: use torch.compile"):
        torch.jit.script(model)


def test_signature_and_errors_are_those_of_the_function():
    with pytest.raises(TypeError, match="softshrink expects a tensor, got list"):
        SF.softshrink([1.0])
    assert SF.softshrink.__doc__.startswith("Soft shrinkage")
    assert SF.softshrink(x=X, lambd=0.3).equal(SF.softshrink(X, 0.3))
