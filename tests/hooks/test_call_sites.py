"""Calls of activations: their names, and meters, penalties and swaps on them."""

import copy
import io
import pickle
import threading
import warnings
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack
from torch.utils.checkpoint import checkpoint

import sparsact as sa
from architectures import PreActivationNet, ResNet
from sparsact.hooks import CallTaps, call_patterns


class Net(nn.Module):
    """Functions under several names, and a module that is called twice at two widths."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.second = nn.Linear(8, 6)
        self.act = nn.ReLU()
        self.block = Block()

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = self.act(x - 0.1)
        x = self.second(x).relu()
        return self.block(self.act(x - 0.1))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.inner(x), approximate="tanh") + F.relu(x)


X = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
NAMES = ["relu()", "act", "relu()#2", "act#2", "block.gelu()", "block.relu()"]


class Add(nn.Module):
    """Adds a constant to zeros: shows which replacement ran."""

    def __init__(self, constant: float) -> None:
        super().__init__()
        self.constant = nn.Parameter(torch.tensor(constant))

    def forward(self, x: Tensor) -> Tensor:
        return x * 0 + self.constant


def numbered():
    """A factory whose replacements give 1, 2, 3, …"""
    number = iter(range(1, 100))
    return lambda old: Add(float(next(number)))


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


# names and patterns


def test_names_in_the_order_of_the_calls() -> None:
    sites = sa.activations(Net(), X)
    assert [site.name for site in sites] == NAMES
    assert [site.activation for site in sites][:4] == ["relu", "ReLU", "relu", "ReLU"]
    assert [site.channels for site in sites] == [8, 8, 6, 6, 6, 6]
    assert sites["act#2"].shape == (5, 6)
    assert sites["act#2"].dtype == torch.float32
    assert [site.name for site in sites[1:3]] == ["act", "relu()#2"]
    with pytest.raises(KeyError):
        sites["nothing"]


def test_prints_as_a_table() -> None:
    sites = sa.activations(Net(), X)
    lines = str(sites).splitlines()
    assert lines[0].split() == [
        "name", "activation", "calls", "shape", "channel", "dim", "channels", "density",
    ]  # fmt: skip
    assert lines[2].split()[:3] == ["act", "ReLU", "1"]
    assert len({len(line) for line in lines}) == 1
    assert "<td>block.gelu()</td>" in sites._repr_html_()


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (F.relu, ["relu()", "relu()#2", "block.relu()"]),
        (torch.relu, ["relu()", "relu()#2", "block.relu()"]),
        (Tensor.relu_, ["relu()", "relu()#2", "block.relu()"]),
        ("*relu()", ["relu()", "relu()#2", "block.relu()"]),
        ("relu()", ["relu()", "relu()#2"]),
        ("relu()#2", ["relu()#2"]),
        ("block.*()", ["block.gelu()", "block.relu()"]),
        ("act", ["act", "act#2"]),
        ("act#*", ["act", "act#2"]),
        ("act#1", ["act"]),
        (nn.ReLU, ["act", "act#2"]),
        (["act#2", F.gelu], ["act#2", "block.gelu()"]),
    ],
)
def test_selects_calls(selector, expected) -> None:
    model = Net()
    with sa.SparsityMeter(model, selector) as meter:
        model(X)
        model(X)
        stats = meter.compute()
    assert list(stats) == expected
    assert all(s.samples == 10 for s in stats.values())
    assert hooks(model) == 0


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("block.relo()", r"no call site matches 'block.relo\(\)'; did you mean 'block.relu\(\)'"),
        ("blok.relu", "no module matches 'blok.relu'.* is written"),
        (nn.LeakyReLU, r"type LeakyReLU.*; torch.nn.functional.leaky_relu selects calls"),
        ("act#0", "from 1"),
        ("act#x", "from 1"),
        (torch.sin, "'sin' is not an activation function"),
        (F.softmax, "'softmax' is not an activation function"),
        ("first.relu()", "no call site matches"),
    ],
)
def test_a_pattern_without_match(selector, message) -> None:
    model = Net()
    for use in (
        lambda: sa.SparsityMeter(model, selector),
        lambda: sa.ActivationPenalty(model, {selector: sa.L1(1.0)}),
        lambda: sa.swap(model, selector, lambda old: nn.Tanh(), example_input=X),
    ):
        with pytest.raises(ValueError, match=message):
            use()
    assert hooks(model) == 0


def test_every_spelling_of_relu_is_one_function() -> None:
    class Spellings(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(torch.relu(x)).relu() + torch.relu_(x * 1) + (x * 1).relu_()
            x = x + F.relu(x, inplace=True) + F.relu_(x * 1) + x.clamp(min=0) + x.clamp(0, 1)
            return x + torch.clamp_min(x, 0) + x.clamp(max=1) + x.clamp(min=1)

    sites = sa.activations(Spellings(), X)
    assert [site.base for site in sites] == ["relu()"] * 7 + ["clamp()"] * 2
    assert "not seen under torch.compile: 'relu()#4', 'relu()#7'" in str(sites)


def test_channel_dims_follow_the_layer_before() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.sequence = nn.Conv1d(3, 5, 1)
            self.image = nn.Conv2d(3, 5, 1)
            self.last = nn.Linear(3, 7)

        def forward(self, sequence: Tensor, image: Tensor) -> list[Tensor]:
            one = F.relu(self.sequence(sequence))
            return [one, F.relu(self.image(image)), F.relu(self.last(image.movedim(1, -1)))]

    sites = sa.activations(Mixed(), (torch.ones(2, 3, 4), torch.ones(2, 3, 4, 4)))
    assert [site.channel_dim for site in sites] == [1, 1, -1]
    assert [site.channels for site in sites] == [5, 5, 7]


def test_channel_dim_of_a_causal_convolution() -> None:
    class Causal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(3, 6, 4, padding=3)
            self.last = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            x = F.silu(self.conv(x)[..., : x.shape[-1]])
            return F.relu(self.last(x.mT)[:, 1:])

    sites = sa.activations(Causal(), torch.ones(2, 3, 5))
    assert [(site.shape, site.channel_dim) for site in sites] == [((2, 6, 5), 1), ((2, 4, 6), -1)]


def test_what_cannot_be_seen_is_said() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, and still in use
        scripted = torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    model = nn.Sequential(scripted, nn.GRU(4, 3))
    remarks = sa.activations(model, X).remarks
    assert any("'0'" in remark and "TorchScript" in remark for remark in remarks)
    assert any("'1' (recurrent layers" in remark for remark in remarks)


def test_a_compiled_model_is_listed_too() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
    assert [site.name for site in sa.activations(torch.compile(model), X)] == ["_orig_mod.1"]
    model.compile()
    assert [site.name for site in sa.activations(model, X)] == ["1"]


def test_an_example_that_does_not_run() -> None:
    model = Net()
    model.block.eval()
    before = hooks(model)
    with pytest.raises(ValueError, match=r"does not run on example_input=: RuntimeError: .*mat1"):
        sa.activations(model, torch.ones(2, 3))
    assert hooks(model) == before
    assert model.training
    assert not model.block.training


# meters


def test_one_module_at_two_widths() -> None:
    model = ResNet()
    x = torch.randn(2, 3, 8, 8)
    with sa.SparsityMeter(model, nn.ReLU, gradients=True) as meter:
        for _ in range(2):
            model(x).sum().backward()
        stats = meter.compute()
    assert [s.units for s in stats.values()] == [16, 4, 4, 16, 4, 4, 16]
    assert all(s.samples == 2 * 2 * 64 and s.zero_gradient is not None for s in stats.values())


def test_a_call_of_another_width_is_left_out_and_said() -> None:
    act = nn.ReLU()
    model = nn.Sequential(act)
    with sa.SparsityMeter(model, "0") as meter:
        model(torch.ones(3, 8))
        with pytest.warns(UserWarning, match="'0' had 8 units, and now has 4"):
            model(torch.ones(3, 4))
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # once
            model(torch.ones(3, 4))
        model(torch.ones(2, 8))
        assert meter.compute()["0"].samples == 5


def test_a_call_outside_of_the_model_is_the_first() -> None:
    model = Net()
    with sa.SparsityMeter(model, "act") as meter:
        model.act(torch.ones(3, 8))
        model.act(torch.ones(3, 8))
        assert list(meter.compute()) == ["act"]


def test_names_stay_right_after_a_forward_that_fails() -> None:
    model = Net()
    with sa.SparsityMeter(model, [nn.ReLU, F.relu, F.gelu]) as meter:
        with pytest.raises(RuntimeError):
            model(torch.ones(2, 3))
        model(X)
        assert set(meter.compute()) == set(NAMES)


def test_two_meters_on_functions_do_not_disturb_each_other() -> None:
    model = Net()
    one, two = sa.SparsityMeter(model, F.relu), sa.SparsityMeter(model, "*()")
    model(X)
    one.remove()
    model(X)
    assert list(one.compute()) == ["relu()", "relu()#2", "block.relu()"]
    assert {name: s.samples for name, s in two.compute().items()} == {
        "relu()": 10, "relu()#2": 10, "block.gelu()": 10, "block.relu()": 10,
    }  # fmt: skip
    two.remove()
    assert hooks(model) == 0


@pytest.mark.parametrize("swapped", [False, True])
def test_threads_may_run_one_model(swapped) -> None:
    model = Net()
    if swapped:
        sa.swap(model, F.relu, numbered(), example_input=X)
    expected, unequal, go = model(X), [], threading.Barrier(3)

    def wait(module: nn.Module, args: object) -> None:
        go.wait(10)  # all threads are inside the forward at the same time

    model.block.inner.register_forward_pre_hook(wait)

    def run() -> None:
        for _ in range(3):
            if not torch.equal(model(X), expected):
                unequal.append(1)

    with sa.SparsityMeter(model, ["act", "*relu()"] if not swapped else ["act"]) as meter:
        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        names = ["relu()", "act", "relu()#2", "act#2", "block.relu()"]
        found = meter.compute()
    assert unequal == []
    assert set(found) == (set(names) if not swapped else {"act", "act#2"})
    assert all(s.samples == 45 for s in found.values())


def test_functions_are_seen_after_a_callback_that_fails() -> None:
    model = Net()
    with sa.SparsityMeter(model, F.relu, unit_dim=2) as meter:
        with pytest.raises(ValueError, match=r"unit_dim=2 does not exist at 'relu\(\)'"):
            model(X)
        meter.unit_dim = None
        model(X)
        assert list(meter.compute()) == ["relu()", "relu()#2", "block.relu()"]


@pytest.mark.parametrize("place", ["", "act", "block"])
def test_names_stay_right_after_a_hook_that_fails(place) -> None:
    def fail(module: nn.Module, args: object) -> None:
        raise ArithmeticError

    model = Net()
    expected = model(X)
    sa.swap(model, F.gelu, lambda old: Old(old), example_input=X)
    with sa.SparsityMeter(model, [nn.ReLU, F.relu]) as meter:
        handle = model.get_submodule(place).register_forward_pre_hook(fail, prepend=True)
        for _ in range(2):
            with pytest.raises(ArithmeticError):
                model(X)
        handle.remove()
        meter.reset()
        assert torch.equal(model(X), expected)
        assert {name: s.samples for name, s in meter.compute().items()} == dict.fromkeys(
            ("relu()", "act", "relu()#2", "act#2", "block.relu()"), 5
        )
    assert _get_current_function_mode_stack() == []


def test_a_function_that_no_forward_can_call() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    with pytest.raises(ValueError, match=r"can call relu\(\): its modules are torch's own"):
        sa.SparsityMeter(model, F.relu)


def test_a_forward_that_is_called_directly() -> None:
    for use in (
        lambda model: sa.SparsityMeter(model, "act"),
        lambda model: sa.SparsityMeter(model, F.relu),
        lambda model: sa.ActivationPenalty(model, {"*relu()": sa.L1(1.0), "act": sa.L1(1.0)}),
    ):
        model = Net()
        with use(model):
            model(X)
            model.block(X.new_zeros(2, 6))
            model.act(torch.ones(2, 8))
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                model.forward(X)
                model.forward(X)
            said = [str(w.message) for w in caught if "called directly" in str(w.message)]
            assert len(said) == 1
            assert "forward of Net was called directly" in said[0]
    sa.swap(model, F.relu, lambda old: nn.Tanh(), example_input=X)
    expected = model(X)
    for module, x in ((model, X), (model.block, torch.ones(2, 6))):
        with pytest.raises(RuntimeError, match=r"ignores hooks and the swap of .*relu\(\)'"):
            module.forward(x)
    for copied in (model, copy.deepcopy(model)):
        assert torch.equal(copied(X), expected)
        with pytest.raises(RuntimeError, match="called directly"):
            copied.forward(X)


class OnDevice(nn.Module):
    """Enters a mode of its own around a child."""

    def __init__(self, child: nn.Module) -> None:
        super().__init__()
        self.child = child

    def forward(self, x: Tensor) -> Tensor:
        with torch.device("meta"):
            x = self.child(F.relu(x))
            assert torch.ones(1).device.type == "meta"
        assert torch.ones(1).device.type == "cpu"
        return F.relu(x)


class Fails(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise ArithmeticError


def test_modes_of_the_user_stay_where_they_are() -> None:
    model = OnDevice(nn.ReLU())
    with sa.SparsityMeter(model, [F.relu, nn.ReLU]) as meter:
        model(X)
        assert list(meter.compute()) == ["relu()", "child", "relu()#2"]
    sa.swap(model, F.relu, lambda old: nn.Tanh(), example_input=X)
    model(X)
    model = OnDevice(Fails())
    with sa.SparsityMeter(model, F.relu), pytest.raises(ArithmeticError):
        model(X)
    assert _get_current_function_mode_stack() == []


def test_a_shared_module_has_one_name() -> None:
    act = nn.ReLU()
    model = nn.ModuleDict({"a": nn.Sequential(act), "b": nn.Sequential(act)})
    with sa.SparsityMeter(model, nn.ReLU) as meter:
        for _ in range(3):
            model["a"](X)
            model["b"](X)
        assert {name: s.samples for name, s in meter.compute().items()} == {"a.0": 30}


def test_taps_on_calls_can_replace_what_a_function_takes_and_gives() -> None:
    model = Net()
    for on in ("input", "output"):
        taps = CallTaps(model, call_patterns(model, "relu()"), lambda s, i, x: x * 0 + 1.0, on)
        with taps, sa.SparsityMeter(model, "act") as meter:
            model(X)
            assert meter.compute()["act"].mean_magnitude == pytest.approx(0.9)


def test_a_call_that_two_selectors_select_counts_once() -> None:
    model = Net()
    sites = sa.activations(model, X)
    with sa.SparsityMeter(model, [*sites, "act", F.relu, nn.ReLU], gradients=True) as meter:
        model(X).sum().backward()
        assert {s.samples for s in meter.compute().values()} == {5}


def test_a_meter_counts_every_example_of_vmap() -> None:
    model = Net()
    parameters = dict(model.named_parameters())

    def loss(parameters, x: Tensor) -> Tensor:
        return torch.func.functional_call(model, parameters, (x,)).square().sum()

    per_sample = torch.func.vmap(torch.func.grad(loss), (None, 0))
    expected = per_sample(parameters, X)
    with sa.SparsityMeter(model, ["act", F.relu], gradients=True) as meter:
        found = per_sample(parameters, X)
        stats = meter.compute()
        meter.reset()
        model(X).sum().backward()
        plain = meter.compute()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert {n: (s.samples, s.units) for n, s in stats.items()} == {
        n: (s.samples, s.units) for n, s in plain.items()
    }
    for name, s in stats.items():
        torch.testing.assert_close(s.unit_magnitude, plain[name].unit_magnitude)


def test_per_sample_gradients_with_an_injected_penalty() -> None:
    model = Net()
    parameters = dict(model.named_parameters())
    penalty = sa.ActivationPenalty(model, {F.relu: sa.L1(0.1)}, "sum", mode="inject")

    def loss(parameters, x: Tensor) -> Tensor:
        return torch.func.functional_call(model, parameters, (x,)).square().sum()

    per_sample = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, X)
    value = penalty()
    model(X).square().sum().backward()
    torch.testing.assert_close(value, penalty())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(per_sample[name].sum(0), parameter.grad)


def test_without_entries() -> None:
    with torch.device("meta"):
        model = Net()
    sites = sa.activations(model, X.to("meta"))
    assert [site.name for site in sites] == NAMES
    assert str(sites).count("nan") == len(NAMES)
    for net, x in ((model, X.to("meta")), (Net(), X[:0])):
        with sa.SparsityMeter(net, list(sites)) as meter:
            net(x)
            with pytest.raises(RuntimeError, match="empty tensors, and tensors on the meta device"):
                meter.compute()


def test_programs_contain_no_meter() -> None:
    model = Net()
    with sa.SparsityMeter(model, [F.relu, "act"]) as meter:
        exported = torch.export.export(model, (X,))
        with pytest.raises(RuntimeError, match=r"forwards of torch\.export"):
            meter.compute()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit is deprecated, and still in use
            traced = torch.jit.trace(model, X, check_trace=False)
        assert torch.equal(exported.module()(X), model(X))
        assert torch.equal(traced(X), model(X))
        assert {s.samples for s in meter.compute().values()} == {10}


@dataclass
class Output:
    hidden: Tensor


def test_a_dataclass_as_output() -> None:
    class Wrapped(nn.Module):
        def forward(self, x: Tensor) -> Output:
            return Output(x)

    with sa.SparsityMeter(model := Wrapped(), "") as meter:
        model(X)
        assert meter.compute()[""].samples == 5


# penalties


def test_penalties_on_functions_and_calls() -> None:
    model = Net()
    sites = sa.activations(model, X)
    spec = {F.relu: sa.L1(1.0), "act#2": sa.L1(2.0), sites["block.gelu()"]: sa.L2(3.0)}
    penalty = sa.ActivationPenalty(model, spec, "sum")
    seen: dict[str, Tensor] = {}
    taps = CallTaps(model, call_patterns(model, list(sites)), lambda s, i, x: seen.update({s: x}))
    model(X)
    value = penalty()
    expected = sum(seen[name].abs().sum() for name in ("relu()", "relu()#2", "block.relu()"))
    expected = expected + 2 * seen["act#2"].abs().sum() + 3 * seen["block.gelu()"].square().sum()
    torch.testing.assert_close(value, expected)
    parameters = list(model.parameters())
    one = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    other = torch.autograd.grad(expected, parameters, allow_unused=True)
    torch.testing.assert_close(one, other)
    assert penalty.coefficients == {"relu()": 1.0, "act#2": 2.0, "block.gelu()": 3.0}
    taps.remove()
    penalty.remove()
    assert hooks(model) == 0


def test_injected_on_functions_equals_added() -> None:
    grads = []
    for mode in ("loss", "inject"):
        torch.manual_seed(0)
        model = Net()
        penalty = sa.ActivationPenalty(model, {F.relu: sa.L1(0.1), "act": sa.L1(0.2)}, mode=mode)
        loss = model(X).square().mean()
        (loss + penalty() if mode == "loss" else loss).backward()
        grads.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize(
    ("one", "other"),
    [("act", nn.ReLU), ("act#2", "act"), (F.relu, "block.relu()"), ("relu()#1", "*relu()")],
)
def test_two_patterns_on_one_call_raise(one, other) -> None:
    with pytest.raises(ValueError, match="takes one pattern"):
        sa.ActivationPenalty(Net(), {one: sa.L1(1.0), other: sa.L1(1.0)})


def test_two_calls_of_one_module_take_two_penalties() -> None:
    model = Net()
    penalty = sa.ActivationPenalty(model, {"act#1": sa.L1(1.0), "act#2": sa.L1(0.0)}, "sum")
    with sa.SparsityMeter(model, "act") as meter:
        model(X)
        s = meter.compute()["act"]
    assert penalty().item() == pytest.approx(s.mean_magnitude * s.samples * s.units, rel=1e-5)


def test_a_penalty_on_a_module_that_torch_never_calls() -> None:
    model = nn.Sequential(nn.TransformerEncoderLayer(4, 2, 8))
    penalty = sa.ActivationPenalty(model, {"0.self_attn.out_proj": sa.L1(1.0)})
    model(X)
    with pytest.raises(RuntimeError, match=r"out_proj' is never called: nn.MultiheadAttention"):
        penalty()


@pytest.mark.parametrize("first", [True, False])
def test_a_penalty_whose_module_was_replaced(first) -> None:
    model = Net()
    penalty = sa.ActivationPenalty(model, {"act": sa.L1(1.0), "block": sa.L1(1.0)})
    if not first:
        model(X)
        penalty()
    sa.swap(model, nn.ReLU, lambda old: sa.nn.JumpReLU(0.1))
    model(X)
    with pytest.raises(RuntimeError, match="'act', replaced in the model after the penalty"):
        penalty()


def test_a_penalty_whose_hooks_were_removed() -> None:
    model = Net()
    penalty = sa.ActivationPenalty(model, {"act": sa.L1(1.0), F.gelu: sa.L1(1.0)})
    model(X)
    penalty()
    model.act._forward_hooks.clear()
    model(X)
    with pytest.raises(RuntimeError, match="the hooks of the penalty on 'act' were removed"):
        penalty()


def test_a_penalty_on_a_function_that_is_not_called() -> None:
    model = Net()
    penalty = sa.ActivationPenalty(model, {F.silu: sa.L1(1.0)})
    model(X)
    with pytest.raises(RuntimeError, match=r"no call of silu\(\) was seen"):
        penalty()


def test_a_penalty_that_sees_a_part_says_so_once() -> None:
    model = nn.ModuleDict({"a": nn.ReLU(), "b": nn.ReLU()})
    penalty = sa.ActivationPenalty(model, {nn.ReLU: sa.L1(1.0)})
    model["a"](X)
    with pytest.warns(UserWarning, match="saw a part of what it names .*'b' did not run"):
        penalty()
    model["a"](X)
    penalty()


# swaps


def test_each_call_gets_its_own_replacement() -> None:
    model = Net()
    new = sa.swap(model, F.relu, numbered(), example_input=X)
    new |= sa.swap(model, "act", numbered(), example_input=X)
    assert list(new) == ["relu()", "relu()#2", "block.relu()", "act", "act#2"]
    expected = {"relu.1": 1.0, "act.1": 1.0, "relu.2": 2.0, "act.2": 2.0, "block.relu": 3.0}
    with sa.SparsityMeter(model, list(expected)) as meter:
        model(X)
        found = {name: s.mean_magnitude for name, s in meter.compute().items()}
    assert found == expected
    assert {"relu.1.constant", "act.2.constant", "block.relu.constant"} <= set(model.state_dict())


def test_a_shared_module_is_swapped_by_any_of_its_names() -> None:
    act = nn.ReLU()
    for name in ("0.1", "1.1"):
        halves = (nn.Sequential(nn.Linear(4, 4), act) for _ in range(2))
        model = nn.Sequential(*halves)
        new = sa.swap(model, name, lambda old: nn.Tanh(), example_input=X)
        assert list(new) == ["0.1"]
        assert isinstance(model[1][1], nn.Tanh)
        assert model[0][1] is model[1][1]


def test_the_second_call_alone() -> None:
    model = Net()
    plain = Net()
    plain.load_state_dict(model.state_dict())
    sa.swap(model, "act#2", lambda old: nn.Identity(), example_input=X)
    with sa.SparsityMeter(model, nn.ReLU) as one, sa.SparsityMeter(plain, nn.ReLU) as other:
        model(X)
        plain(X)
        assert list(one.compute()) == ["act.original"]
        assert one.compute()["act.original"].density == other.compute()["act"].density


def test_the_old_function_keeps_its_options() -> None:
    model = Net()
    olds = []
    sa.swap(model, F.gelu, lambda old: olds.append(old) or Old(old), example_input=X)
    x = torch.randn(3)
    torch.testing.assert_close(olds[0](x), F.gelu(x, approximate="tanh"))


class Old(nn.Module):
    def __init__(self, old) -> None:
        super().__init__()
        self.old = old

    def forward(self, x: Tensor) -> Tensor:
        return self.old(x)


def test_the_factory_may_take_the_call_site() -> None:
    model = ResNet()
    x = torch.randn(2, 3, 8, 8)

    def per_channel(old, site):
        return sa.nn.Softshrink(
            0.1, learnable=True, num_parameters=site.channels, channel_dim=site.channel_dim
        )

    new = sa.swap(model, nn.ReLU, per_channel, example_input=x)
    assert [module.num_parameters for module in new.values()] == [16, 4, 4, 16, 4, 4, 16]
    model(x).sum().backward()
    assert all(module.lambd.grad is not None for module in new.values())
    with pytest.raises(ValueError, match="takes the call site, which needs an example: pass"):
        sa.swap(ResNet(), nn.ReLU, per_channel)


def test_functions_and_single_calls_need_an_example() -> None:
    for selector in (F.relu, "relu()", "act#2"):
        with pytest.raises(ValueError, match="found by running the model: pass example_input="):
            sa.swap(Net(), selector, lambda old: nn.Tanh())


def test_operations_in_place_stay_in_place() -> None:
    class InPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x = x * 1
            x.relu_()
            F.relu(x, inplace=True)
            return x

    model = InPlace()
    sa.swap(model, F.relu, lambda old: Doubled(), example_input=X)
    x = X.clone().requires_grad_()
    model(x).sum().backward()
    torch.testing.assert_close(model(X), X * 4)
    torch.testing.assert_close(x.grad, torch.full_like(X, 4.0))


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2


class Widens(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, x), -1)


@pytest.mark.parametrize(
    ("selector", "factory", "error"),
    [
        (F.relu, lambda old: Widens(), "does not run on example_input="),
        ("act", lambda old: Widens(), "does not run on example_input="),
        (F.silu, lambda old: nn.Tanh(), r"no call matches silu\(\).*first calls are 'relu\(\)'"),
        ("act#3", lambda old: nn.Tanh(), "no call matches act#3"),
    ],
)
def test_a_swap_that_fails_leaves_the_model_as_it_was(selector, factory, error) -> None:
    model = Net()
    before, names = model(X), [name for name, _ in model.named_modules()]
    with pytest.raises(ValueError, match=error):
        sa.swap(model, selector, factory, example_input=X)
    assert torch.equal(model(X), before)
    assert [name for name, _ in model.named_modules()] == names
    assert hooks(model) == 0


def test_a_swap_of_what_torch_never_calls() -> None:
    model = nn.Sequential(nn.TransformerEncoderLayer(4, 2, 8))
    with pytest.raises(ValueError, match="out_proj' is never called"):
        sa.swap(model, "0.self_attn.out_proj", lambda old: nn.Linear(4, 4))


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.GELU(), F.relu])
def test_transformer_encoders_compute_the_swapped_activation(activation) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation=activation)
    model = nn.TransformerEncoder(layer, 2).eval()
    x = torch.randn(2, 5, 8)
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    if isinstance(activation, nn.Module):
        sa.swap(model, type(activation), lambda old: sa.nn.JumpReLU(0.5))
    else:
        sa.swap(model, activation, lambda old: sa.nn.JumpReLU(0.5), example_input=x)
    for mask in (None, padding):
        expected = model(x, src_key_padding_mask=mask)
        for context in (torch.no_grad, torch.inference_mode):
            with context():  # here attention has a fast path, and rounds in another way
                y = model(x, src_key_padding_mask=mask)
                other = copy.deepcopy(model)(x, src_key_padding_mask=mask)
            torch.testing.assert_close(y, expected)
            torch.testing.assert_close(other, expected)


@pytest.mark.parametrize("layers", [0, 2])
@pytest.mark.parametrize("hooked", ["swap", "linear1", "encoder", "nothing"])
def test_a_meter_on_an_encoder_keeps_swaps_and_hooks(layers, hooked) -> None:
    model: nn.Module = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = (nn.TransformerEncoder(model, layers) if layers else model).eval()
    x = torch.randn(2, 5, 8)
    if hooked == "swap":
        sa.swap(model, F.relu, lambda old: sa.nn.JumpReLU(0.5), example_input=x)
    elif hooked == "encoder":
        model.register_forward_hook(lambda module, args, output: output + 1)
    elif hooked == "linear1":
        linear = next(module for module in model.modules() if isinstance(module, nn.Linear))
        linear.register_forward_hook(lambda module, args, output: output + 1)
    for context in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        with context():
            expected = model(x)
            with sa.SparsityMeter(model, "*linear1"):
                assert torch.equal(model(x), expected)
            if hooked != "swap":
                with sa.SparsityMeter(model, ["", F.relu]):
                    assert torch.equal(model(x), expected)


def test_copies_are_independent() -> None:
    model = Net()
    sa.swap(model, F.relu, numbered(), example_input=X)
    sa.swap(model, "act", numbered(), example_input=X)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for copied in (
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        torch.load(file, weights_only=False),
    ):
        assert torch.equal(copied(X), model(X))
        with torch.no_grad():
            copied.get_parameter("block.relu.constant").add_(5)
        torch.testing.assert_close(copied(X), model(X) + 5)


def test_swapping_again_inside_a_swapped_model() -> None:
    model = Net()
    sa.swap(model, F.relu, lambda old: nn.LeakyReLU(0.5), example_input=X)
    sa.swap(model, F.gelu, lambda old: Relu(), example_input=X)
    sa.swap(model, "act", lambda old: Relu())
    sites = [site.name for site in sa.activations(model, X)]
    assert sites == ["relu.1", "act", "relu.2", "act#2", "block.gelu", "block.relu"]
    sa.swap(model, nn.LeakyReLU, lambda old: Relu())
    expected = Net()
    expected.load_state_dict(model.state_dict())
    sa.swap(expected, F.gelu, lambda old: nn.ReLU(), example_input=X)
    torch.testing.assert_close(model(X), expected(X))


class Relu(nn.Module):
    """A replacement that itself calls a function that was swapped."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)


def test_more_calls_than_in_the_example() -> None:
    class Loop(nn.Module):
        def forward(self, x: Tensor, times: int = 2) -> Tensor:
            for _ in range(times):
                x = F.relu(x)
            return x

    model = Loop()
    sa.swap(model, F.relu, numbered(), example_input=X)
    assert model(X).mean().item() == 2.0
    assert model(X, times=1).mean().item() == 1.0
    with pytest.raises(RuntimeError, match="called more often than on the example_input="):
        model(X, times=3)


class PartlyCheckpointed(nn.Module):
    def __init__(self, module: bool) -> None:
        super().__init__()
        self.act = nn.ReLU()
        self.module = module

    def part(self, x: Tensor) -> Tensor:
        return self.act(x) if self.module else F.relu(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.part(checkpoint(self.part, x, use_reentrant=False))


def test_a_checkpoint_of_a_part_of_a_forward_is_refused() -> None:
    x = X.clone().requires_grad_()
    model = PartlyCheckpointed(False)
    with pytest.raises(ValueError, match="checkpoint the module, not a part"):
        sa.swap(model, F.relu, numbered(), example_input=X)
    assert hooks(model) == 0
    sa.ActivationPenalty(model, {F.relu: sa.L1(1.0)}, mode="inject")
    with pytest.raises(RuntimeError, match="checkpoint the module, not a part"):
        model(x)
    model = PartlyCheckpointed(True)
    sa.swap(model, "act", lambda old: nn.Tanh(), example_input=X)
    with pytest.raises(RuntimeError, match="put no part of a forward into a checkpoint"):
        model(x).sum().backward()


def test_compiled_and_exported() -> None:
    model = Net()
    sa.swap(model, F.relu, lambda old: sa.nn.Softshrink(0.1), example_input=X)
    sa.swap(model, "act", lambda old: sa.nn.JumpReLU(0.1), example_input=X)
    expected = model(X)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(X), expected)
    exported = torch.export.export(model.eval(), (X,)).module()
    torch.testing.assert_close(exported(X), expected)


def test_compiled_code_leaves_other_activations_alone() -> None:
    model = Net()
    sa.swap(model, F.relu, numbered(), example_input=X)
    expected = model(X)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for _ in range(2):
        torch.testing.assert_close(compiled(X), expected)


def test_compiling_what_hides_a_swapped_call_is_refused() -> None:
    class Hides(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu_(x * 1)

    model = Hides()
    sa.swap(model, F.relu, lambda old: nn.Tanh(), example_input=X)
    torch.testing.assert_close(model(X), X.tanh())
    torch._dynamo.reset()
    with pytest.raises(Exception, match=r"write x\.relu_\(\) in place of torch\.relu_"):
        torch.compile(model, backend="aot_eager", fullgraph=True)(X)


def test_states_bring_learned_thresholds_back() -> None:
    def build():
        model = Net()

        def learned(old, site):
            return sa.nn.JumpReLU(
                0.1, learnable=True, num_parameters=site.channels, channel_dim=site.channel_dim
            )

        sa.swap(model, F.relu, learned, example_input=X)
        return model

    model, other = build(), build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.rand_like(parameter) * 0.1)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(X), model(X))
    assert sum("relu" in name for name in model.state_dict()) == 3


def test_pretrained_files_bring_thresholds_back(tmp_path) -> None:
    import transformers

    class SparseBert(transformers.BertModel):
        def __init__(self, config) -> None:
            super().__init__(config)
            learned = {"learnable": True, "num_parameters": 16, "channel_dim": -1}
            sa.swap(self, "encoder.*act_fn", lambda old: sa.nn.JumpReLU(0.1, **learned))
            sa.swap(self, "pooler.activation", lambda old: sa.nn.Softshrink(torch.tensor(0.2)))

    config = transformers.BertConfig(
        vocab_size=40,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    model = SparseBert(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.rand_like(parameter) * 0.1)
    model.pooler.activation.init_from(torch.randn(100, 8), sparsity=0.5)
    model.save_pretrained(tmp_path)
    loaded = SparseBert.from_pretrained(tmp_path).eval()
    tokens = torch.arange(12).reshape(2, 6)
    assert torch.equal(loaded(tokens)[1], model(tokens)[1])
    assert loaded.pooler.activation.lambd == model.pooler.activation.lambd > 0.2


def test_thresholds_find_their_channels() -> None:
    model = ResNet()
    x = torch.randn(2, 3, 8, 8)
    new = sa.swap(
        model,
        nn.ReLU,
        lambda old: sa.nn.Softshrink(0.1, learnable=True, num_parameters=None),
        example_input=x,
    )
    assert [module.num_parameters for module in new.values()] == [16, 4, 4, 16, 4, 4, 16]


def test_swap_takes_several_selectors() -> None:
    torch.manual_seed(0)
    model, images = PreActivationNet(), torch.randn(2, 3, 8, 8)
    sites = sa.activations(model, images)
    new = sa.swap(model, [sites[0], torch.clamp], lambda old: nn.Tanh(), example_input=images)
    assert list(new) == ["relu()", "clamp()"]
    kinds = [site.activation for site in sa.activations(model, images)]
    assert kinds == ["Tanh", "relu", "Tanh", "relu"]
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Tanh(), nn.Linear(2, 2))
    assert list(sa.swap(net, ["1", nn.ReLU, nn.Tanh], lambda old: nn.SiLU())) == ["1", "2"]
    with pytest.raises(ValueError, match="no module matches 'nothing'"):
        sa.swap(net, ["1", "nothing"], lambda old: nn.SiLU())
