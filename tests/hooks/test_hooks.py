"""Selecting modules, reading their tensors, replacing modules."""

import copy
import pickle
from collections import OrderedDict, namedtuple

import pytest
import torch
from torch import nn

import sparsact as sa
from sparsact.hooks import Taps, assign_calls, assign_parameters, first_tensor, select_modules

pytestmark = pytest.mark.versions


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(4, 4)
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(self.lin(x))


def net():
    return nn.Sequential(OrderedDict(first=Block(), second=Block(), head=nn.Linear(4, 2)))


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("first.act", ["first.act"]),
        ("*.act", ["first.act", "second.act"]),
        ("*act", ["first.act", "second.act"]),
        (
            "*",
            ["", "first", "first.lin", "first.act", "second", "second.lin", "second.act", "head"],
        ),
        ("[fs]*.lin", ["first.lin", "second.lin"]),
        ("", [""]),
        (nn.ReLU, ["first.act", "second.act"]),
        (lambda name, module: isinstance(module, nn.Linear) and "." not in name, ["head"]),
    ],
)
def test_selects(selector, names):
    model = net()
    selected = select_modules(model, selector)
    assert list(selected) == names
    assert all(model.get_submodule(name) is module for name, module in selected.items())


def test_selects_a_module_itself():
    model = net()
    assert list(select_modules(model, model.second.act)) == ["second.act"]
    with pytest.raises(ValueError, match="no module matches"):
        select_modules(model, nn.ReLU())


def test_a_shared_module_is_selected_once_by_any_of_its_names():
    model = net()
    model.second.act = model.first.act
    assert list(select_modules(model, nn.ReLU)) == ["first.act"]
    assert list(select_modules(model, "second.act")) == ["second.act"]


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("first.akt", "did you mean 'first.act'"),
        ("relu*", "no module matches 'relu\\*'; the first names are 'first', 'first.lin'"),
        ("*.acts", "did you mean 'first.act' or 'second.act'"),
        (nn.ReLU6, "type ReLU6; did you mean 'ReLU'"),
    ],
)
def test_no_match_names_the_nearest(selector, message):
    with pytest.raises(ValueError, match=message):
        select_modules(net(), selector)


def test_rejects_other_types_as_selectors():
    with pytest.raises(TypeError, match=r"glob on names.*got int"):
        select_modules(net(), 3)


def test_assigns_each_module_once():
    model = net()
    assigned = assign_calls(model, {"first.*": "a", "second.act": "b"})
    assert {pattern.text: value for pattern, value in assigned} == {
        "first.lin": "a",
        "first.act": "a",
        "second.act": "b",
    }
    with pytest.raises(ValueError, match=r"'first.act' is matched by '\*.act' and by type ReLU"):
        assign_calls(model, {"*.act": "a", nn.ReLU: "b"})
    model.second.act = model.first.act
    with pytest.raises(ValueError, match="one module takes one pattern"):
        assign_calls(model, {"first.act": "a", "second.act": "b"})


@pytest.mark.parametrize(
    ("spec", "error"), [({}, ValueError), (["*.act"], TypeError), ({"nothing": 1}, ValueError)]
)
def test_assign_rejects_a_wrong_mapping(spec, error):
    with pytest.raises(error):
        assign_calls(net(), spec)


def test_assigns_parameters_by_name():
    model = net()
    assigned = assign_parameters(model, {"*.weight": 1, "head.bias": 2})
    assert {name: value for name, (_, value) in assigned.items()} == {
        "first.lin.weight": 1,
        "second.lin.weight": 1,
        "head.weight": 1,
        "head.bias": 2,
    }
    with pytest.raises(ValueError, match=r"no parameter matches.*did you mean 'head.weight'"):
        assign_parameters(model, {"head.weigth": 1})


def test_swaps_by_type_and_keeps_sharing():
    model = net()
    model.second.act = model.first.act
    new = sa.swap(model, nn.ReLU, lambda old: sa.nn.Softshrink(0.1))
    assert list(new) == ["first.act"]
    assert model.first.act is model.second.act is new["first.act"]
    x = torch.randn(3, 4)
    hidden = sa.functional.softshrink(model.first.lin(x), 0.1)
    hidden = sa.functional.softshrink(model.second.lin(hidden), 0.1)
    assert model(x).equal(model.head(hidden))


@pytest.mark.parametrize("training", [True, False])
def test_swap_keeps_the_mode(training):
    model = net().train(training)
    sa.swap(model, nn.ReLU, lambda old: sa.nn.BatchTopK(1))
    assert model.first.act.training == training
    model(torch.randn(3, 4))
    assert bool(model.first.act.num_batches_tracked) == training


def test_swap_passes_the_old_module_to_the_factory():
    model = net()
    seen = []
    sa.swap(model, "*.act", lambda old: seen.append(old) or nn.Identity())
    assert [type(old) for old in seen] == [nn.ReLU, nn.ReLU]
    assert seen[0] is not seen[1]


def test_swap_rejects_the_root_and_a_factory_without_module():
    with pytest.raises(ValueError, match="the model itself, which has no parent"):
        sa.swap(nn.ReLU(), nn.ReLU, lambda old: nn.Identity())
    model = net()
    with pytest.raises(TypeError, match="must return a module, got float"):
        sa.swap(model, nn.ReLU, lambda old: 0.5)
    assert isinstance(model.first.act, nn.ReLU)


class Returns(nn.Module):
    """Returns whatever it was built with, around its input."""

    def __init__(self, wrap):
        super().__init__()
        self.wrap = wrap

    def forward(self, x, *, scale=None):
        return self.wrap(x)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: x,
        lambda x: (x, x + 1),
        lambda x: [None, (x,)],
        lambda x: {"flag": True, "hidden": x, "other": x + 1},
        lambda x: OrderedDict(out={"deep": (None, x)}),
    ],
    ids=["tensor", "tuple", "list", "dict", "nested"],
)
def test_tap_passes_the_first_tensor(wrap):
    module, seen = Returns(wrap), []
    taps = Taps({"name": module}, lambda name, x: seen.append((name, x)))
    x = torch.randn(2, 3)
    module(x)
    taps.remove()
    module(x)
    assert len(seen) == 1
    assert seen[0][0] == "name"
    assert seen[0][1] is x


def test_tap_on_the_input_reads_keywords_too():
    class Named(nn.Module):
        def forward(self, x, other=None):
            return x if other is None else other

    module, seen = Named(), []
    Taps({"": module}, lambda name, x: seen.append(x), "input")
    a, b = torch.ones(1), torch.ones(2)
    module(a, other=b)
    module(x=b)
    assert seen[0] is a
    assert seen[1] is b


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda x: None, "the output of 'name' contains no tensor: NoneType"),
        (lambda x: {}, "contains no tensor"),
        (lambda x: x.long(), "the output of 'name' must be floating point, got torch.int64"),
    ],
)
def test_tap_names_a_layer_that_cannot_be_read(wrap, message):
    module = Returns(wrap)
    Taps({"name": module}, lambda name, x: None)
    with pytest.raises(TypeError, match=message):
        module(torch.zeros(2))


def test_taps_reject_another_site():
    with pytest.raises(ValueError, match="'input' or 'output', got 'weight'"):
        Taps({}, lambda name, x: None, "weight")


def test_removing_taps_leaves_no_hook_and_may_be_repeated():
    module = nn.ReLU()
    taps = [Taps({"": module}, lambda name, x: None, on) for on in ("input", "output")]
    assert module._forward_hooks
    assert module._forward_pre_hooks
    for tap in taps:
        tap.remove()
        tap.remove()
    assert not module._forward_hooks
    assert not module._forward_pre_hooks


def test_first_tensor_without_tensors():
    assert first_tensor(None) is None
    assert first_tensor((1, [None], {"a": "b"})) is None


def test_select_picks_the_tensor():
    x, seen = torch.randn(2, 3), []
    module = Returns(lambda x: {"a": x, "b": 2 * x})
    Taps({"": module}, lambda name, t: seen.append(t), select=lambda out: out["b"])
    Taps({"": module}, lambda name, t: seen.append(t), "input", lambda x, scale: scale)
    module(x, scale=3 * x)
    assert seen[0].equal(3 * x)
    assert seen[1].equal(2 * x)


def test_select_without_a_tensor_names_the_layer():
    module = Returns(lambda x: {"a": x})
    Taps({"name": module}, lambda name, t: None, select=lambda out: out)
    with pytest.raises(TypeError, match="the output of 'name' contains no tensor: dict"):
        module(torch.ones(2))


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("wrap", "read"),
    [
        (lambda x: x, lambda out: out),
        (lambda x: (None, x), lambda out: out[1]),
        (lambda x: Point(x, 1), lambda out: out.x),
        (lambda x: OrderedDict(a=[x], b=2), lambda out: out["a"][0]),
    ],
)
def test_a_tap_may_replace_the_tensor(wrap, read):
    module, x = Returns(wrap), torch.ones(2)
    Taps({"": module}, lambda name, t: t + 1)
    out = module(x)
    assert type(out) is type(wrap(x))
    assert read(out).equal(x + 1)


def test_a_tap_may_replace_an_input():
    module, x = Returns(lambda x: x), torch.ones(2)
    Taps({"": module}, lambda name, t: t + 1, "input")
    assert module(x).equal(x + 1)
    assert module(x=x).equal(x + 1)


def test_a_replacement_in_an_unknown_container_is_rejected():
    class Box(dict):
        pass

    module = Returns(lambda x: Box(a=x))
    Taps({"name": module}, lambda name, t: t + 1)
    with pytest.raises(TypeError, match="'name' cannot be replaced inside Box"):
        module(torch.ones(2))


def all_hooks(model):
    tables = [getattr(m, t) for m in model.modules() for t in vars(m) if t.endswith("_hooks")]
    return [hook for table in tables if isinstance(table, dict) for hook in table.values()]


def user_hook(module, args, output):
    return output + 1


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, copy.copy, lambda model: pickle.loads(pickle.dumps(model))],
    ids=["deepcopy", "copy", "pickle"],
)
@pytest.mark.parametrize("attached", ["loss", "inject", "meter"])
def test_copies_of_a_tapped_model_carry_no_tap(copied, attached):
    model = net()
    model.first.act.register_forward_hook(user_hook)
    x = torch.randn(3, 4)
    plain = model(x)
    if attached == "meter":
        tap = sa.SparsityMeter(model, "*.act")
    else:
        spec = {"*.act": sa.L1(0.1), "": sa.L2(0.1)}
        tap = sa.ActivationPenalty(model, spec, mode=attached)
    model(x)  # a value with a graph is stored now
    twin = copied(model)
    if twin.first is not model.first:  # a shallow copy shares its children, with their taps
        assert all_hooks(twin) == [user_hook]
        assert twin(x).equal(plain)
    assert not twin._forward_hooks
    assert not twin._forward_pre_hooks
    assert "__getstate__" not in vars(twin)
    value = tap.compute() if attached == "meter" else tap()
    assert value is not None  # the tap on the original still works
    tap.remove()
    assert all_hooks(model) == [user_hook]
    assert "__getstate__" not in vars(model.first.act)


def test_a_class_with_its_own_state_keeps_it():
    module = WithState()
    Taps({"": module}, lambda name, t: None)
    twin = copy.deepcopy(module)
    assert twin.marked
    assert not twin._forward_hooks


class CopiesItsDict(nn.Linear):
    def __deepcopy__(self, memo):
        new = memo[id(self)] = type(self)(4, 4)
        new.__dict__.update({k: copy.deepcopy(v, memo) for k, v in self.__dict__.items()})
        return new


class SharesItsDict(nn.Linear):
    def __deepcopy__(self, memo):
        new = type(self)(4, 4)
        new.__dict__.update(self.__dict__)
        return new


class HidesItsOwnDeepcopy(nn.Linear):
    """A common idiom: use the default deepcopy once, without recursion."""

    def __deepcopy__(self, memo):
        own = self.__deepcopy__
        self.__deepcopy__ = None
        new = copy.deepcopy(self, memo)
        self.__deepcopy__ = own
        del new.__deepcopy__
        return new


class Reduces(nn.Linear):
    def __reduce__(self):
        return (type(self), (4, 4), self.__dict__)


def kinds(hooks):
    return [getattr(hook, "__qualname__", type(hook)) for hook in hooks]


def parametrized(features_in, features_out):
    return nn.utils.parametrizations.weight_norm(nn.Linear(features_in, features_out))


def traced(features_in, features_out):
    return torch.fx.symbolic_trace(nn.Sequential(nn.Linear(features_in, features_out)))


@pytest.mark.parametrize("attached", ["loss", "inject", "meter"])
@pytest.mark.parametrize(
    "build", [CopiesItsDict, SharesItsDict, HidesItsOwnDeepcopy, Reduces, parametrized, traced]
)
def test_a_class_that_copies_itself_copies_no_tap(build, attached):
    model = nn.Sequential(build(4, 4), nn.Tanh())
    model[0].register_forward_hook(user_hook)
    x = torch.randn(3, 4)
    without_tap = all_hooks(model)
    twin = copy.deepcopy(model)  # the class decides what happens to its hooks
    expected, plain = kinds(all_hooks(twin)), twin(x)
    if attached == "meter":
        tap = sa.SparsityMeter(model, "0")
    else:
        tap = sa.ActivationPenalty(model, {"0": sa.L1(0.1)}, mode=attached)
    with_tap = all_hooks(model)
    model(x)
    twins = [copy.deepcopy(model)]
    if build is Reduces:
        twins.append(pickle.loads(pickle.dumps(model)))
    for twin in twins:
        assert kinds(all_hooks(twin)) == expected
        assert not {"__getstate__", "__reduce_ex__"} & set(vars(twin[0]))
        assert twin(x).equal(plain)
    assert all_hooks(model) == with_tap
    assert (tap.compute() if attached == "meter" else tap()) is not None
    tap.remove()
    assert all_hooks(model) == without_tap
    assert not {"__getstate__", "__deepcopy__", "__reduce_ex__"} & set(vars(model[0]))
    assert copy.deepcopy(model)(x).equal(plain)


class WithState(nn.ReLU):
    def __getstate__(self):
        return {**self.__dict__, "marked": True}


def test_data_parallel_is_rejected():
    model = net()
    for wrapped in (nn.DataParallel(model), nn.Sequential(nn.DataParallel(model))):
        with pytest.raises(RuntimeError, match=r"use torch\.nn\.parallel\.Dist"):
            sa.ActivationPenalty(wrapped, {"*.act": sa.L1(0.1)})
    sa.ActivationPenalty(model, {"*.act": sa.L1(0.1)})
    replica = model.first.act._replicate_for_data_parallel()  # the copy for one device
    with pytest.raises(RuntimeError, match=r"use torch\.nn\.parallel\.Dist"):
        replica(torch.ones(2, 4))


def test_hooks_on_a_compiled_model_are_rejected():
    in_place = net()
    in_place.compile()
    for model in (torch.compile(net()), in_place, nn.Sequential(torch.compile(net()))):
        with pytest.raises(RuntimeError, match="install the hooks first, then compile"):
            sa.ActivationPenalty(model, {nn.ReLU: sa.L1(0.1)})
        assert not all_hooks(model)
