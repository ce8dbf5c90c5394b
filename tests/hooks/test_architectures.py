"""Meters, penalties and swaps on twenty architectures."""

import copy
import warnings
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.exc import Unsupported
from torch.utils._pytree import tree_leaves

import sparsact as sa
from architectures import ARCHITECTURES

pytestmark = [pytest.mark.versions, pytest.mark.filterwarnings("ignore::UserWarning")]
MODES = {
    "train": (True, nullcontext),
    "eval": (False, nullcontext),
    "no_grad": (False, torch.no_grad),
    "inference": (False, torch.inference_mode),
}
COMPILED = ["ResNet (bottlenecks)", "residual net of functions", "tied layers", "Llama"]


@pytest.fixture(params=ARCHITECTURES)
def built(request):
    """A model, its input and the number of its call sites."""
    torch.manual_seed(0)
    architecture = ARCHITECTURES[request.param]
    model = architecture.build()
    return model, architecture.example(), architecture.sites


class Counted(nn.Module):
    """The old activation, and how often it was called."""

    def __init__(self, old) -> None:
        super().__init__()
        self.old = old
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.old(x)


def outputs(model, example, mode="eval") -> list[Tensor]:
    """The tensors that a model returns; from the same seed each time."""
    training, context = MODES[mode]
    model.train(training)
    torch.manual_seed(1)
    with context():
        if isinstance(example, dict):
            result = model(**example)
        else:
            result = model(*example) if isinstance(example, tuple) else model(example)
    return [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) > 0 and all(map(torch.equal, one, other))


def test_lists_every_site(built) -> None:
    model, example, count = built
    before = {name: value.clone() for name, value in model.state_dict().items()}
    sites = sa.activations(model, example)
    assert len(sites) == count
    assert len({site.name for site in sites}) == count
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("mode", MODES)
def test_a_meter_changes_no_bit(built, mode) -> None:
    model, example, _ = built
    sites = sa.activations(model, example)
    plain = outputs(copy.deepcopy(model), example, mode)
    functions = ["*()"] if any(site.base.endswith("()") for site in sites) else []
    with sa.SparsityMeter(model, [*sites, *functions]) as meter:
        assert equal(plain, outputs(model, example, mode))
        stats = meter.compute()
    assert {site.name for site in sites} == set(stats)
    assert {name: s.units for name, s in stats.items()} == {s.name: s.channels for s in sites}
    if mode == "eval":
        for site in sites:
            assert stats[site.name].density == pytest.approx(site.density, abs=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_swapped_activations_are_computed_in_every_mode(built, mode) -> None:
    model, example, _ = built
    sites = sa.activations(model, example)
    plain = outputs(copy.deepcopy(model), example, mode)
    new: dict[str, nn.Module] = {}
    bases = dict.fromkeys(site.base for site in sites)
    for base in bases:
        new |= sa.swap(model, base, Counted, example_input=example)
    assert set(new) == {site.name for site in sites}
    for module in new.values():
        module.calls = 0
    swapped = outputs(model, example, mode)
    assert {name: module.calls for name, module in new.items()} == {s.name: s.calls for s in sites}
    for one, other in zip(plain, swapped, strict=True):  # the fast path rounds in another way
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5, equal_nan=True)
    assert equal(swapped, outputs(copy.deepcopy(model), example, mode))


def test_a_penalty_sees_every_site(built) -> None:
    model, example, _ = built
    sites = sa.activations(model, example)
    meter = sa.SparsityMeter(model, sites)
    penalty = sa.ActivationPenalty(model, {site: sa.L1(1.0) for site in sites}, "sum")
    outputs(model, example, "train")
    stats = meter.compute().values()
    expected = sum(s.mean_magnitude * s.samples * s.units for s in stats)
    value = penalty()
    assert value.item() == pytest.approx(expected, rel=1e-4)
    value.backward()
    assert any(parameter.grad is not None for parameter in model.parameters())


def skip_what_torch_does_not_compile(architecture) -> None:
    """Old versions of torch do not trace all models of new versions of transformers."""
    plain = torch.compile(architecture.build(), backend="aot_eager", fullgraph=True)
    try:
        outputs(plain, architecture.example(), "train")
    except Unsupported as problem:
        pytest.skip(f"torch does not compile the model itself: {problem}")


@pytest.mark.parametrize("name", COMPILED)
def test_compiled(name) -> None:
    torch.manual_seed(0)
    architecture = ARCHITECTURES[name]
    model, example = architecture.build(), architecture.example()
    sites = sa.activations(model, example)
    for base in dict.fromkeys(site.base for site in sites):
        sa.swap(model, base, lambda old: sa.nn.Softshrink(0.01), example_input=example)
    swapped = sa.activations(model, example)
    penalty = sa.ActivationPenalty(model, {site: sa.L1(1.0) for site in swapped}, "sum")
    expected = outputs(model, example, "train")
    value = penalty()
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = outputs(compiled, example, "train")
        except Unsupported:
            skip_what_torch_does_not_compile(architecture)
            raise
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(penalty(), value)
