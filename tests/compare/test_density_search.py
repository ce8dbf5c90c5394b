"""The search for the λ, k or penalty that gives a density."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import sparsact as sa
from architectures import ResNet
from sparsact.compare import CompareConfig
from sparsact.compare.settings.training_plan import Setting, make_plan
from sparsact.compare.training import engine
from sparsact.compare.training.density_search import ROUNDS, find_setting, is_close, why_missed
from sparsact.compare.training.knobs import RANGES, next_value, value_of
from sparsact.compare.training.trial_record import LayerRecord, TrialRecord
from tiny_models import vit

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(240, 8, generator=GENERATOR)
Y = (X[:, 0] + X[:, 1] > 0).long()
LAYER = LayerRecord(1, 0.0, 0.0, 0.0, 0.0, 0.0, None, 1.0, (1,))


@pytest.fixture(autouse=True)
def no_step_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "time_steps", lambda *_: {"relu": 1.0})


class MadeTrials:
    """Trainings whose density is a function of the value."""

    def __init__(self, density: Callable[[float], float], epochs: int = 1) -> None:
        self.density, self.epochs = density, epochs
        self.trained: list[float] = []
        self.continued: list[float] = []

    def run(self, setting: Setting) -> TrialRecord:
        value = value_of(setting)
        assert value is not None
        self.trained.append(value)
        density = self.density(value)
        if math.isnan(density):
            return TrialRecord(setting.label, 0, "diverged", (), (), None, (), 0)
        return TrialRecord(setting.label, 0, "finished", (0.0,), ((density,),), 0.0, (LAYER,), 0)

    def first_strength(self, setting: Setting) -> float:
        return 1e-3

    def warm_path(self, setting: Setting) -> Callable[[Setting], float]:
        def density(candidate: Setting) -> float:
            value = value_of(candidate)
            assert value is not None
            self.continued.append(value)
            return 1.3 * self.density(value)  # a continued training is not a new one

        return density


def search(trials: MadeTrials, setting: Setting, target: float) -> float:
    value = value_of(find_setting(setting, target, trials))  # type: ignore[arg-type]
    assert value is not None
    return value


SOFT, RELU, TOPK = Setting("softshrink", 0.5), Setting("relu"), Setting("topk", 0.1)
CURVES: dict[str, Callable[[float], float]] = {
    "exponential": lambda value: math.exp(-3 * value),
    "normal": lambda value: math.erfc(value / math.sqrt(2)),
    "steep": lambda value: 1 / (1 + (value / 0.7) ** 20),
    "flat": lambda value: 1 / (1 + value) ** 0.7,
    "falls to zero": lambda value: max(0.0, 1 - value),
    "wavy": lambda value: math.exp(-2 * value) * (1 + 0.02 * math.sin(40 * value)),
}


@pytest.mark.parametrize("epochs", [1, 10])
@pytest.mark.parametrize("target", [0.5, 0.2, 0.05])
@pytest.mark.parametrize("name", CURVES)
def test_lambda_is_found_for_every_curve(name: str, target: float, epochs: int) -> None:
    if name == "flat" and target < 0.2:
        target = 0.2  # the largest λ leaves 0.19
    trials = MadeTrials(CURVES[name], epochs)
    value = search(trials, SOFT, target)
    assert is_close(CURVES[name](value), target)
    assert len(trials.trained) <= ROUNDS["lambd"]
    assert len(set(trials.trained)) == len(trials.trained)
    assert bool(trials.continued) == (epochs > 1 and len(trials.trained) > 1)


@pytest.mark.parametrize("scale", [1e-5, 1e-3, 0.1])
def test_the_strength_is_found_at_every_scale(scale: float) -> None:
    curve = lambda value: 0.6 / (1 + value / scale)  # noqa: E731
    trials = MadeTrials(curve)
    value = search(trials, RELU, 0.1)
    assert is_close(curve(value), 0.1)
    assert len(trials.trained) <= 8


def test_a_penalty_of_the_user_is_where_the_search_begins() -> None:
    plan = make_plan(CompareConfig(activations="relu", penalty="l2=0.02", target_density=0.1))
    trials = MadeTrials(lambda value: 0.5 / (1 + 1e3 * value))
    found = find_setting(plan.settings[0], 0.1, trials)  # type: ignore[arg-type]
    assert trials.trained[0] == 0.02
    assert found.penalty is not None
    assert found.penalty.kind == "l2"


def test_a_share_of_channels_that_relu_lowers_is_raised() -> None:
    trials = MadeTrials(lambda value: 0.8 * value)
    assert is_close(0.8 * search(trials, TOPK, 0.2), 0.2)
    assert trials.trained[0] == 0.2
    exact = MadeTrials(lambda value: value)
    assert search(exact, TOPK, 0.2) == 0.2
    assert len(exact.trained) == 1


def test_what_cannot_be_reached_ends_at_the_end_of_the_range() -> None:
    strong = MadeTrials(lambda value: 0.4)
    found = find_setting(RELU, 0.1, strong)  # type: ignore[arg-type]
    assert strong.trained[-1] == RANGES["strength"][1]
    assert len(strong.trained) <= ROUNDS["strength"]
    assert found.penalty is not None
    weak = MadeTrials(lambda value: 0.05)
    find_setting(SOFT, 0.5, weak)  # type: ignore[arg-type]
    assert weak.trained[-1] == RANGES["lambd"][0]


def test_a_training_that_diverges_counts_as_too_sparse() -> None:
    trials = MadeTrials(lambda value: math.nan if value > 0.9 else math.exp(-2 * value))
    value = search(trials, Setting("softshrink", 3.0), 0.4)
    assert is_close(math.exp(-2 * value), 0.4)


def test_without_zeros_there_is_nothing_to_search() -> None:
    trials = MadeTrials(lambda value: 1.0)
    setting = Setting("silu")
    assert find_setting(setting, 0.1, trials) == setting  # type: ignore[arg-type]
    assert trials.trained == []
    assert why_missed(setting) == "its outputs are never exactly zero"
    assert why_missed(Setting("topk", 1.0)) == "the largest k that is tried"


def test_the_next_value_is_on_the_line_in_logs() -> None:
    assert next_value("lambd", [(0.1, 0.8), (0.2, 0.4)], 0.2) == pytest.approx(0.4)
    assert next_value("lambd", [(0.1, 0.8)], 1e-9) == pytest.approx(0.3)  # a step of 3 at most
    assert next_value("strength", [(1e-3, 0.0)], 0.1) == pytest.approx(1e-4)
    assert next_value("k", [(0.2, 0.1)], 0.2) == pytest.approx(0.4)
    assert next_value("lambd", [(9.0, 0.5)], 0.01) == 10.0


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2)
    )


def densities(result: Any) -> dict[str, float]:
    """The density on the validation part, which is the test part too."""
    return {row.activation: row.density.mean for row in result.report.rows}


def test_every_kind_meets_the_density_or_says_why_not() -> None:
    names = "softshrink,hardshrink,learned_jumprelu,topk,scad,tanh,hardtanh"
    result = sa.compare_activations(
        mlp,
        (X[:160], Y[:160]),
        (X[160:], Y[160:]),
        activations=names,
        target_density=0.25,
        epochs=6,
        seeds=1,
        lr=0.01,
    )
    reached = densities(result)
    for name in ("tanh", "hardtanh"):
        assert reached.pop(name) > 0.9
        assert f"{name} (100.0%; its outputs are never exactly zero)" in result.report.conclusion
    assert {name: is_close(density, 0.25) for name, density in reached.items()} == dict.fromkeys(
        reached, True
    )


def test_a_convolutional_network() -> None:
    images = torch.randn(40, 3, 8, 8, generator=GENERATOR)
    data = images, images.mean((1, 2, 3)).gt(0).long()
    result = sa.compare_activations(
        ResNet, data, data, activations="jumprelu,softshrink", target_density=0.2, epochs=2, seeds=1
    )
    reached = densities(result)
    assert all(is_close(reached[name], 0.2) for name in ("jumprelu", "softshrink")), reached


def test_a_transformer() -> None:
    pixels = torch.randn(20, 3, 16, 16, generator=GENERATOR)
    batches = [
        {"pixel_values": pixels[i : i + 5], "labels": torch.arange(5)} for i in range(0, 20, 5)
    ]
    result = sa.compare_activations(
        vit,
        batches,
        batches,
        activations="jumprelu",
        target_density=0.1,
        epochs=2,
        seeds=1,
        lr=3e-3,
    )
    reached = densities(result)
    assert is_close(reached["jumprelu"], 0.1), reached


def test_a_search_is_not_repeated_when_a_run_is_resumed(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(**options: Any) -> Any:
        data = X, Y
        return sa.compare_activations(
            mlp,
            data,
            data,
            activations="softshrink",
            target_density=0.3,
            epochs=5,
            seeds=1,
            lr=0.01,
            out=tmp_path / "run",
            **options,
        )

    whole = run()
    monkeypatch.setattr(engine, "search", None)
    again = run(resume=True)
    assert again.complete
    assert list(again.table.index) == list(whole.table.index)
