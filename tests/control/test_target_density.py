"""The controller of densities: thresholds, penalties and gates, on held-out data."""

import copy
import math
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from controlled_step import control_values
from torch import nn
from torch._dynamo.testing import CompileCounter

import sparsact as sa
from two_processes import run_on_two

TOLERANCE = 0.02
GATES = [sa.nn.HardConcrete, sa.nn.GaussianGate, sa.nn.ReluGate]


def share(x):
    """The density, counted without the library."""
    return float((x != 0).double().mean())


def close(density, target):
    return abs(density / target - 1) <= TOLERANCE


THRESHOLDS = {
    "softshrink": lambda: sa.nn.Softshrink(0.1),
    "softshrink-learned": lambda: sa.nn.Softshrink(0.1, learnable=True),
    "softshrink-channels": lambda: sa.nn.Softshrink(0.1, num_parameters=32),
    "hardshrink": lambda: sa.nn.Hardshrink(3.0),
    "firmshrink": lambda: sa.nn.Firmshrink(0.1, 0.3),
    "jumprelu-learned": lambda: sa.nn.JumpReLU(0.1, True, num_parameters=32),
    "scad": lambda: sa.nn.SCAD(0.1),
    "halfshrink": lambda: sa.nn.Halfshrink(0.1),
    "positive": lambda: sa.nn.Softshrink(0.1, sides="positive", zero_other=True),
    "groups": lambda: sa.nn.GroupSoftshrink(0.1, group_size=4),
    "sparse-groups": lambda: sa.nn.SparseGroupSoftshrink(0.1, 0.1, group_size=4),
}


@pytest.mark.parametrize("build", THRESHOLDS.values(), ids=THRESHOLDS)
def test_thresholds_reach_a_density_while_the_network_trains(build):
    model = nn.Sequential(nn.Linear(8, 32), build(), nn.Linear(32, 1))
    control = sa.TargetDensity(model, {"1": 0.2}, warmup=50)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(300):
        x = torch.randn(128, 8)
        optimizer.zero_grad()
        (model(x)[:, 0] - x[:, 0]).square().mean().backward()
        optimizer.step()
        control.step()
    assert control.densities["1"] == pytest.approx(0.2, rel=0.1)
    held_out = torch.randn(16000, 8)
    assert share(model[:2](held_out)) == pytest.approx(0.2, rel=0.1)
    settled = control.settle(held_out.split(4000))
    assert close(share(model[:2](held_out)), 0.2)
    assert settled == {"1": pytest.approx(share(model[:2](held_out)))}
    assert close(share(model[:2](torch.randn(20000, 8))), 0.2)


def test_ratios_of_learned_thresholds_belong_to_training():
    module = sa.nn.Softshrink(torch.tensor([0.1, 0.2, 0.4]), True, num_parameters=3)
    model = nn.Sequential(module)
    control = sa.TargetDensity(model, {"0": 0.1})
    for _ in range(20):
        model(torch.randn(64, 3))
        control.step()
    assert not 0.09 < module.lambd[0].item() < 0.11
    level = module.lambd.detach()
    torch.testing.assert_close(level / level[0], torch.tensor([1.0, 2.0, 4.0]))


def test_a_convolutional_network_with_penalties_and_batch_norm():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 1)
    )
    penalty = sa.ActivationPenalty(model, {"2": sa.L1(0.3)}, "mean")
    control = sa.TargetDensity(model, {"2": 0.2}, penalty=penalty, warmup=100)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(900):
        x = torch.randn(32, 1, 8, 8)
        target = x.amax((1, 2, 3)) + torch.randn(32)
        optimizer.zero_grad()
        ((model(x)[:, 0] - target).square().mean() + penalty()).backward()
        optimizer.step()
        control.step()
        if step in (600, 750):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a coefficient acts later
                control.settle([torch.randn(500, 1, 8, 8)])
    model.eval()
    assert close(share(model[:3](torch.randn(2000, 1, 8, 8))), 0.2)


def test_a_perceptron_with_the_penalty_of_the_user_and_its_schedule():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 1))
    schedule = sa.LinearWarmup(0.2, steps=50)
    teacher = torch.randn(8, 32) / 8  # it needs many units
    penalty = sa.ActivationPenalty(model, {"1": sa.L1(schedule)}, mode="inject")
    control = sa.TargetDensity(model, {nn.ReLU: 0.1}, penalty=penalty, warmup=100)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(1000):
        x = torch.randn(256, 8)
        optimizer.zero_grad()
        (model(x)[:, 0] - (x @ teacher).abs().sum(1)).square().mean().backward()
        optimizer.step()
        penalty.step()
        control.step()
    assert penalty.coefficients["1"] == pytest.approx(0.2 * control.values["1"])
    assert close(share(model[:2](torch.randn(20000, 8))), 0.1)


def gated(kind, case):
    """A network with gates, its selector, and how many gates there are."""
    if case == "features":
        return nn.Sequential(kind(20), nn.Linear(20, 1)), "0", 20
    if case == "units":
        return nn.Sequential(nn.Linear(20, 40), kind(40), nn.Linear(40, 1)), "1", 40
    if case == "channels":
        return (
            nn.Sequential(
                nn.Unflatten(1, (1, 20)),
                nn.Conv1d(1, 16, 5),
                kind(16, channel_dim=1),
                nn.Flatten(),
                nn.Linear(16 * 16, 1),
            ),
            "2",
            16,
        )
    if case == "heads":
        return Heads(kind), "gate", 8
    return nn.Sequential(*[Block(kind) for _ in range(6)], nn.Linear(20, 1)), "*.gate", 6


class Heads(nn.Module):
    """Attention over the 20 entries as 5 tokens, with a gate for each of 8 heads."""

    def __init__(self, kind):
        super().__init__()
        self.project, self.read = nn.Linear(4, 3 * 32), nn.Linear(32, 1)
        self.gate = kind(8, channel_dim=1)

    def forward(self, x):
        parts = self.project(x.reshape(-1, 5, 4)).reshape(-1, 5, 3, 8, 4).permute(2, 0, 3, 1, 4)
        heads = self.gate(nn.functional.scaled_dot_product_attention(*parts))
        return self.read(heads.transpose(1, 2).reshape(-1, 5, 32)).sum(1)


class Block(nn.Module):
    """A residual layer with a gate of its own."""

    def __init__(self, kind):
        super().__init__()
        self.body, self.gate = nn.Linear(20, 20), kind(1)

    def forward(self, x):
        return x + self.gate(self.body(x).tanh())


@pytest.mark.parametrize(
    ("kind", "case", "density"),
    [
        *[(kind, "features", 0.1) for kind in GATES],
        (sa.nn.HardConcrete, "units", 0.25),
        (sa.nn.ReluGate, "units", 0.25),
        (sa.nn.GaussianGate, "channels", 0.25),
        (sa.nn.HardConcrete, "heads", 0.5),
        (sa.nn.GaussianGate, "layers", 0.5),
    ],
)
def test_gates_reach_a_density(kind, case, density):
    torch.manual_seed(0)
    model, selector, number = gated(kind, case)
    control = sa.TargetDensity(model, {selector: density}, warmup=100)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-2)
    for _ in range(600):
        x = torch.randn(64, 20)
        optimizer.zero_grad()
        loss = (model(x)[:, 0] - 2 * x[:, 0] - x[:, 1]).square().mean()
        (loss + control()).backward()
        optimizer.step()
        control.step()
    assert control.densities[selector] == pytest.approx(density, rel=0.6)
    settled = control.settle([])
    open_gates = sum(
        int((gate.eval().gates() != 0).sum())
        for gate in model.modules()
        if isinstance(gate, sa.nn.ChannelGate)
    )
    assert open_gates == round(density * number)
    assert close(settled[selector], density)
    if case == "features":
        assert model[0].gates().nonzero()[:, 0].tolist() == [0, 1]


def test_settling_keeps_gates_that_fit():
    gate = sa.nn.HardConcrete(4)
    with torch.no_grad():
        gate.location.copy_(torch.tensor([-5.0, 3.0, 2.0, -6.0]))
    before = gate.location.detach().clone()
    control = sa.TargetDensity(nn.Sequential(gate), {"0": 0.5})
    assert control.settle([]) == {"0": 0.5}
    assert gate.location.equal(before)
    for count in (1, 2, 3, 4):
        sa.TargetDensity(nn.Sequential(gate), {"0": count / 4}).settle([])
        assert int((gate.eval().gates() != 0).sum()) == count
    assert gate.location.argsort().tolist() == before.argsort().tolist()


def test_the_multiplier_opens_gates_too():
    """The loss alone would close all gates."""
    torch.manual_seed(0)
    gate = sa.nn.HardConcrete(20, open_probability=0.5)
    model = nn.Sequential(gate)
    control = sa.TargetDensity(model, {"0": 0.5}, warmup=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-2)
    for _ in range(400):
        optimizer.zero_grad()
        (0.1 * gate.expected_l0() + control()).backward()
        optimizer.step()
        control.step()
    assert control.values["0"] < 0
    assert control.densities["0"] == pytest.approx(0.5, rel=0.05)


def test_accumulated_forwards_count_together():
    parts = torch.randn(4, 16, 6).unbind()
    results = []
    for batches in ([torch.cat(parts)], parts):
        model = nn.Sequential(sa.nn.Softshrink(0.5))
        control = sa.TargetDensity(model, {"0": 0.1})
        for batch in batches:
            model(batch)
        with torch.no_grad():
            model(torch.zeros(8, 6))  # neither this
        model.eval()(torch.zeros(8, 6))  # nor this is training
        control.step()
        results.append((control.densities["0"], control.values["0"]))
    assert results[0] == results[1]
    assert results[0][0] == pytest.approx(share(sa.functional.softshrink(torch.cat(parts), 0.5)))


def test_a_compiled_model_is_not_compiled_again():
    torch._dynamo.reset()
    counter = CompileCounter()
    model = nn.Sequential(nn.Linear(6, 16), sa.nn.Softshrink(0.1), nn.ReLU())
    penalty = sa.ActivationPenalty(model, {"2": sa.L1(1e-2)})
    control = sa.TargetDensity(model, {"1": 0.2, "2": 0.05}, penalty=penalty)
    twin = copy.deepcopy(model)
    other = sa.TargetDensity(twin, {"1": 0.2})
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    counts = []
    for _ in range(6):
        x = torch.randn(32, 6)
        (compiled(x).sum() + penalty()).backward()
        twin(x)
        control.step()
        other.step()
        counts.append(counter.frame_count)
    assert counts[1:] == [counts[1]] * 5  # after the second forward, as without the control
    assert control.values["1"] == pytest.approx(other.values["1"])


def test_state():
    def steps(control, model, number):
        generator = torch.Generator().manual_seed(number)
        for _ in range(number):
            model(torch.randn(32, 6, generator=generator))
            control()
            control.step()

    def build():
        torch.manual_seed(0)
        model = nn.Sequential(sa.nn.Softshrink(0.1), nn.Linear(6, 6), nn.ReLU(), nn.ReLU())
        model.append(sa.nn.HardConcrete(6))
        penalty = sa.ActivationPenalty(model, {"2": sa.L1(1e-2)})
        spec = {"0": 0.3, "2": 0.1, "4": 0.5}
        return model, penalty, sa.TargetDensity(model, spec, penalty=penalty, warmup=10)

    model, penalty, control = build()
    steps(control, model, 5)
    fresh, fresh_penalty, fresh_control = build()
    fresh.load_state_dict(model.state_dict())
    fresh_control.load_state_dict(copy.deepcopy(control.state_dict()))
    assert fresh_control.values == pytest.approx(control.values)
    assert fresh_penalty.coefficients == pytest.approx(penalty.coefficients)
    for each in (control, fresh_control):
        steps(each, model if each is control else fresh, 6)
    assert fresh_control.values == pytest.approx(control.values)
    with pytest.raises(ValueError, match="the state belongs to"):
        sa.TargetDensity(model, {"0": 0.3}).load_state_dict(control.state_dict())


def test_settling_leaves_modes_and_counts_alone():
    model = nn.Sequential(sa.nn.Softshrink(0.5), nn.Dropout(0.5), nn.Dropout(0.5).eval())
    control = sa.TargetDensity(model, {"0": 0.1})
    x = torch.randn(64, 6)
    model(x)
    control.settle([(torch.randn(500, 6), "labels")])
    assert [part.training for part in model] == [True, True, False]
    control.step()
    assert control.densities["0"] == pytest.approx(share(sa.functional.softshrink(x, 0.5)))
    called = []
    control.settle([{"x": x}], forward=lambda batch: called.append(model(batch["x"])))
    assert called


def run(model, control, steps):
    for _ in range(steps):
        model(torch.randn(8, 6))
        control.step()


def test_tanh_has_no_zeros():
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh())
    penalty = sa.ActivationPenalty(model, {"1": sa.L1(1e-3)})
    control = sa.TargetDensity(model, {"1": 0.1}, penalty=penalty)
    with pytest.warns(UserWarning, match=r"density of '1' was 1 in all steps .*: 0.1 is out of"):
        run(model, control, 60)
    held = control.values["1"]
    run(model, control, 20)  # said once, and the coefficient stands still
    assert control.values["1"] == held


def test_a_threshold_at_its_end():
    """ReLU leaves half; no λ makes more of it."""
    model = nn.Sequential(nn.ReLU(), sa.nn.Softshrink(0.1))
    control = sa.TargetDensity(model, {"1": 0.9}, warmup=0)
    with pytest.warns(UserWarning, match="smallest λ that is tried: 0.9 is out of reach"):
        run(model, control, 800)
    with pytest.warns(UserWarning, match=r"held-out density: '1' has 0\.\d+ instead of 0.9"):
        control.settle([torch.randn(500, 6)])


def test_gates_that_cannot_have_the_density():
    with pytest.warns(UserWarning, match="8 gates of '0' cannot have the density 0.3: aiming at 2"):
        sa.TargetDensity(nn.Sequential(sa.nn.HardConcrete(8)), {"0": 0.3})


def test_refusals():
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), sa.nn.Softshrink(0.1), sa.nn.TopK(2))
    penalty = sa.ActivationPenalty(model, {"1": sa.L1(0.0)})
    for spec, message in (
        ({"9": 0.1}, "no module matches '9'"),
        ({"2": 0.0}, r"'2': a density must lie in \(0, 1\], got 0.0"),
        ({"2": 1.5}, "a density must lie in"),
        ({"2": math.nan}, "a density must lie in"),
        ({"1": 0.1}, r"'1' \(ReLU\) has no λ, coefficient or gate to move"),
        ({"3": 0.1}, r"'3' \(TopK\) has no λ"),
        ({"2": 0.1, "*2": 0.2}, "is matched by"),
        ({}, "at least one pattern"),
    ):
        with pytest.raises(ValueError, match=message):
            sa.TargetDensity(model, spec)
    with pytest.raises(ValueError, match="coefficient of '1' is 0"):
        sa.TargetDensity(model, {"1": 0.1}, penalty=penalty)
    with pytest.raises(ValueError, match="penalty= is on '1'"):
        sa.TargetDensity(model, {"0": 0.1}, penalty=penalty)
    with pytest.raises(ValueError, match="λ of '0' is 0, which no factor moves"):
        sa.TargetDensity(nn.Sequential(sa.nn.Softshrink(0.0)), {"0": 0.1})
    with pytest.raises(ValueError, match="warmup= must not be negative"):
        sa.TargetDensity(model, {"2": 0.1}, warmup=-1)
    lazy = nn.Sequential(sa.nn.Softshrink(num_parameters=None))
    with pytest.raises(ValueError, match="run one forward first"):
        sa.TargetDensity(lazy, {"0": 0.1})
    control = sa.TargetDensity(model, {"2": 0.1})
    with pytest.raises(RuntimeError, match="none of '2' has run in a training forward"):
        control.step()
    forgotten = sa.TargetDensity(nn.Sequential(sa.nn.HardConcrete(4)), {"0": 0.5})
    forgotten.step()
    with pytest.raises(RuntimeError, match=r"add control\(\) to the loss"):
        forgotten.step()


@pytest.mark.skipif(not dist.is_gloo_available(), reason="torch was built without gloo")
def test_two_processes_equal_one(tmp_path):
    run_on_two(Path(__file__).with_name("controlled_step.py"), tmp_path)
    for rank in range(2):
        values = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert values == pytest.approx(control_values(0, 1))
