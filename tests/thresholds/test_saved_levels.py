"""Fixed levels in the state_dict, and levels whose number the data show."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

import sparsact as sa
import sparsact.functional as SF
from compiled_errors import in_compiled_code

pytestmark = pytest.mark.versions
FIRST_FORWARD = in_compiled_code("run one forward before torch.compile")
X = torch.randn(16, 6, 4, generator=torch.Generator().manual_seed(3))
CLASSES = [
    sa.nn.Softshrink,
    sa.nn.Hardshrink,
    sa.nn.Firmshrink,
    sa.nn.SCAD,
    sa.nn.Garrote,
    sa.nn.Halfshrink,
    sa.nn.JumpReLU,
    sa.nn.SigmoidGate,
    sa.nn.GroupSoftshrink,
    sa.nn.SparseGroupSoftshrink,
]
with_data = pytest.mark.parametrize("cls", CLASSES)
every = pytest.mark.parametrize("cls", [*CLASSES, sa.nn.Clip])
learned = pytest.mark.parametrize("learnable", [False, True])


@with_data
@pytest.mark.parametrize("n", [1, 6, None])
@learned
def test_a_level_from_data_is_saved(cls, n, learnable):
    def build() -> nn.Module:
        return nn.Sequential(nn.Identity(), cls(num_parameters=n, learnable=learnable))

    model = build()
    model[1].init_from(X, 0.6)
    state = pickle.loads(pickle.dumps(model.state_dict()))
    twins = [build(), build().to_empty(device="cpu") if n else build(), copy.deepcopy(model)]
    for twin in twins:
        assert str(twin.load_state_dict(state)) == "<All keys matched successfully>"
        assert twin(X).equal(model(X))
        assert twin.state_dict().keys() == state.keys()
        again = build()
        again.load_state_dict(twin.state_dict())
        assert again(X).equal(model(X))


@with_data
def test_with_meta_tensors(cls):
    def build() -> nn.Module:
        return cls(torch.full((6,), 0.3), num_parameters=6)

    model = build().init_from(X, 0.6)
    with torch.device("meta"):
        twin = cls(num_parameters=6)
    twin = twin.to_empty(device="cpu")
    twin.load_state_dict(model.state_dict())
    assert twin(X).equal(model(X))


@every
def test_files_without_fixed_levels_load(cls):
    for module in (cls(), cls(num_parameters=6), cls(torch.tensor(0.2))):
        before = module(X)
        assert str(module.load_state_dict({}, strict=True)) == "<All keys matched successfully>"
        assert module(X).equal(before)
        with pytest.raises(RuntimeError, match="Unexpected key"):
            module.load_state_dict({"lambda": torch.ones(1)}, strict=True)
    with pytest.raises(RuntimeError, match="Missing key"):
        cls(learnable=True).load_state_dict({}, strict=True)


def test_a_float_that_a_constructor_was_given_is_not_saved():
    assert not sa.nn.Softshrink(0.3).state_dict()
    assert not sa.nn.Firmshrink(0.3, upper=0.8).state_dict()


def test_a_learned_level_loads_into_a_fixed_module():
    learned = sa.nn.Softshrink(0.3, learnable=True)
    with torch.no_grad():
        learned.lambd.fill_(-0.7)
    fixed = sa.nn.Softshrink()
    fixed.load_state_dict(learned.state_dict())
    assert fixed(X).equal(learned(X))
    with pytest.raises(RuntimeError, match="lambd"):
        fixed.load_state_dict({"lambd": torch.ones(6)})


@every
@learned
def test_the_number_of_levels_is_found_at_the_first_forward(cls, learnable):
    module, direct = (
        cls(num_parameters=None, learnable=learnable),
        cls(num_parameters=6, learnable=learnable),
    )
    assert "lambd=" in repr(module)
    module = copy.deepcopy(module).double().float()
    before = module.lambd
    optimizer = torch.optim.SGD(module.parameters(), 0.1) if learnable else None
    assert module(X).equal(direct(X))
    assert module.num_parameters == 6
    assert module.lambd.shape == (6,)
    assert repr(module) == repr(direct)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert twin(X).equal(direct(X))
    with pytest.raises(ValueError, match="num_parameters=6, but dim 1"):
        module(X[:, :5])
    if optimizer is not None:
        assert module.lambd is before  # so that the optimizer trains it
        module(X).square().sum().backward()
        optimizer.step()
        assert not module.lambd.equal(direct.lambd)


@every
@learned
def test_an_unknown_number_of_levels_can_be_saved_and_loaded(cls, learnable):
    def build() -> nn.Module:
        return cls(num_parameters=None, learnable=learnable)

    known = build()
    known(X)
    with torch.no_grad():
        known.lambd.uniform_(0.1, 0.9)
    for state in (known.state_dict(), pickle.loads(pickle.dumps(known.state_dict()))):
        module = build()
        module.load_state_dict(state)
        assert module(X).equal(known(X))
    unknown = build()
    unknown.load_state_dict(build().state_dict())
    assert pickle.loads(pickle.dumps(unknown))(X).equal(build()(X))


@pytest.mark.parametrize("cls", [sa.nn.Softshrink, sa.nn.Firmshrink, sa.nn.Clip])
@learned
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch's, in a frame that it resumes
def test_a_compiled_first_forward_finds_the_number(cls, learnable):
    torch._dynamo.reset()
    model = nn.Sequential(nn.Tanh(), cls(num_parameters=None, learnable=learnable))
    if learnable:
        with pytest.raises(Exception, match=FIRST_FORWARD):
            torch.compile(model, backend="aot_eager", fullgraph=True)(X)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=not learnable)
    for _ in range(2):
        torch.testing.assert_close(compiled(X), model(X))
    alone = cls(num_parameters=None, learnable=learnable)
    torch.testing.assert_close(torch.compile(alone, backend="aot_eager")(X), alone(X))


@pytest.mark.parametrize("shape", [(5,), ()])
def test_an_input_without_channels(shape):
    module = sa.nn.Softshrink(num_parameters=None)
    with pytest.raises(ValueError, match="channel_dim=1 does not exist in an input of shape"):
        module(torch.ones(shape))
    with pytest.raises(ValueError, match="does not match num_parameters=None"):
        sa.nn.Softshrink(torch.ones(3), num_parameters=None)


@pytest.mark.parametrize(
    "two",
    [np.int64(2), np.int32(2), np.uint8(2), torch.tensor(2)],
    ids=lambda two: type(two).__name__,
)
def test_integers_of_any_type(two):
    x = X[0]
    assert SF.topk(x, two).equal(SF.topk(x, 2))
    assert SF.batch_topk(x, two, two - 1).equal(SF.batch_topk(x, 2, 1))
    assert sa.nn.TopK(two)(x).equal(sa.nn.TopK(2)(x))
    assert sa.nn.BatchTopK(two)(x).equal(sa.nn.BatchTopK(2)(x))
    assert repr(sa.nn.TopK(two)) == repr(sa.nn.TopK(2))
    groups = SF.group_softshrink(x, 0.5, two - 1, two)
    assert groups.equal(SF.group_softshrink(x, 0.5, 1, 2))
    module = sa.nn.Softshrink(num_parameters=two * 3, channel_dim=two - 2, learnable=True)
    assert module(x).equal(SF.softshrink(x, 0.5))
    for penalty in (sa.GroupLasso, sa.SparseGroupLasso):
        assert penalty(0.3, dim=two - 1, group_size=two)(x) == penalty(0.3, dim=1, group_size=2)(x)
    assert sa.Hoyer(0.3, dim=two - 1)(x) == sa.Hoyer(0.3, dim=1)(x)


@pytest.mark.parametrize(("share", "k"), [(0.25, 1), (0.5, 2), (0.6, 2), (0.01, 1), (0.99, 4)])
def test_k_as_a_share(share, k):
    x = X[0]  # rows of 4
    for value in (share, np.float64(share), torch.tensor(share)):
        assert SF.topk(x, value).equal(SF.topk(x, k))
        assert SF.batch_topk(x, value).equal(SF.batch_topk(x, k))
    assert sa.nn.TopK(share)(x).equal(sa.nn.TopK(k)(x))
    assert sa.nn.BatchTopK(share)(x).equal(sa.nn.BatchTopK(k)(x))
    assert f"k={share}" in repr(sa.nn.TopK(share))
    torch._dynamo.reset()
    compiled = torch.compile(sa.nn.TopK(share), fullgraph=True, dynamic=True, backend="aot_eager")
    for columns in (4, 3):
        assert compiled(x[:, :columns]).equal(SF.topk(x[:, :columns], share))


@pytest.mark.parametrize("bad", [0.0, 1.0, 2.5, -0.5, float("nan"), True, "2", np.bool_(True)])
def test_refuses_another_k(bad):
    for refuse in (lambda: SF.topk(X, bad), lambda: SF.batch_topk(X, bad), lambda: sa.nn.TopK(bad)):
        with pytest.raises(TypeError, match="k= must be an integer"):
            refuse()
