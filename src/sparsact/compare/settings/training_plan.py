"""From the arguments of a comparison to the settings that it trains."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch

from sparsact._common.devices import usable_device
from sparsact._common.errors import InputError, unknown
from sparsact.compare.compare_config import CompareConfig
from sparsact.compare.settings.compared_activations import BY_NAME, Activation
from sparsact.compare.settings.compared_penalties import (
    PENALTIES,
    Strength,
    parse_positive,
    parse_strength,
)
from sparsact.compare.settings.own_activations import chosen_activations
from sparsact.compare.training.workers import check_backend
from sparsact.penalties import Penalty

FIRST_LAMBDA = 0.1
"""Part of ``lambd`` at which a frontier begins."""
FIRST_K = 0.5


@dataclass(frozen=True)
class Point:
    """One of the points of a frontier that one training makes."""

    number: int
    count: int


@dataclass(frozen=True)
class Setting:
    """One choice of activation, threshold and penalty; it is trained once per seed.

    Attributes:
        activation: its name.
        level: its λ or k.
        penalty: on the activations.
        lr: its learning rate, if that was searched.
        own: the activation itself, if it is the user's.
        point: its place in a training whose λ, k or penalty changes step by step; `level` and
            `penalty` are those at the start of it.
    """

    activation: str
    level: float | None = None
    penalty: Strength | None = None
    lr: float | None = None
    own: Activation | None = field(default=None, compare=False, repr=False)
    point: Point | None = None

    @property
    def kind(self) -> Activation:
        """The activation itself."""
        if self.own is not None:
            return self.own
        if self.activation not in BY_NAME:
            raise unknown("activation", self.activation, BY_NAME)
        return BY_NAME[self.activation]

    @property
    def label(self) -> str:
        """A name that is unique within a run."""
        parts = [self.activation]
        if self.point is not None:
            parts.append(f"annealed {self.point.number}/{self.point.count}")
        elif self.level is not None:
            knob = "λ" if self.kind.takes == "lambd" else "k/n"
            start = "₀" if self.kind.learned else ""
            parts.append(f"{knob}{start}={self.level:.4g}")
        if self.penalty is not None and (self.point is None or self.kind.knob != "strength"):
            parts.append(f"{self.penalty.kind}={self.penalty.value:.4g}")
        if self.lr is not None:
            parts.append(f"lr={self.lr:.4g}")
        return " ".join(parts)


@dataclass(frozen=True)
class Sweep:
    """A logarithmic grid over λ or over the strength of a penalty."""

    knob: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Plan:
    """Checked arguments: the settings to train, and how."""

    config: CompareConfig
    hidden: tuple[int, ...]
    settings: tuple[Setting, ...]
    penalty: Strength | None
    weight_penalty: Strength | None
    device: torch.device

    @property
    def lr(self) -> float:
        """The learning rate of settings that have none of their own."""
        return CompareConfig.lr if self.config.lr == "auto" else self.config.lr  # type: ignore


def make_plan(
    config: CompareConfig,
    own: Mapping[str, Activation] | None = None,
    own_penalty: Penalty | None = None,
) -> Plan:
    """Check every argument and list the settings to train.

    Args:
        config: the arguments.
        own: the activations, if they are not those that ``config.activations`` names.
        own_penalty: on the activations, if it is not that of ``config.penalty``.

    Raises:
        InputError: an argument does not make sense.
    """
    _check_numbers(config)
    ways = [name for name in ("sweep", "target_density", "frontier") if getattr(config, name)]
    if len(ways) > 1:
        raise InputError(f"{' and '.join(f'{name}=' for name in ways)} exclude each other")
    penalty = parse_strength("penalty", own_penalty or config.penalty)
    sweep = None if config.sweep is None else _parse_sweep(config.sweep)
    if sweep is not None and sweep.knob != "lambd" and penalty is not None:
        raise InputError(f"a sweep= over {sweep.knob} sets the penalty itself; leave out penalty=")
    settings = [
        setting
        for name, kind in (own or chosen_activations(config.activations)).items()
        for setting in _settings_of(name, kind, config, penalty, sweep)
    ]
    labels = [setting.label for setting in settings]
    if len(set(labels)) < len(labels):
        raise InputError(f"sweep= {config.sweep!r} has values that agree to four digits")
    return Plan(
        config=config,
        hidden=_parse_hidden(config.hidden),
        settings=tuple(settings),
        penalty=penalty,
        weight_penalty=parse_strength("weight_penalty", config.weight_penalty),
        device=usable_device(config.device),
    )


def _settings_of(
    name: str,
    kind: Activation,
    config: CompareConfig,
    penalty: Strength | None,
    sweep: Sweep | None,
) -> list[Setting]:
    level = {"lambd": config.lambd, "k": config.topk, None: None}[kind.takes]
    own = None if BY_NAME.get(name) == kind else kind
    setting = Setting(name, level, penalty, own=own)
    if config.frontier is not None:
        return _points(setting, config.frontier)
    if sweep is None or (sweep.knob == "lambd" and kind.takes != "lambd"):
        return [setting]
    if sweep.knob == "lambd":
        return [replace(setting, level=value) for value in sweep.values]
    return [replace(setting, penalty=Strength(sweep.knob, value)) for value in sweep.values]


def _points(setting: Setting, count: int) -> list[Setting]:
    """The points of a frontier, from dense to sparse; one setting, if nothing makes zeros."""
    knob = setting.kind.knob
    if knob is None:
        return [setting]
    if knob == "lambd" and setting.level is not None:
        setting = replace(setting, level=setting.level * FIRST_LAMBDA)
    elif knob == "k":
        setting = replace(setting, level=FIRST_K)
    return [replace(setting, point=Point(number, count)) for number in range(1, count + 1)]


def _check_numbers(config: CompareConfig) -> None:
    for name in ("epochs", "batch_size", "seeds", "image_size", "jobs"):
        count = getattr(config, name)
        if count < 1:
            raise InputError(f"{name}= must be at least 1, got {count}")
    if config.frontier is not None and config.frontier < 2:
        raise InputError(f"frontier= needs 2 points at least, got {config.frontier}")
    if config.backend != "loky" and config.jobs == 1:
        raise InputError(f"backend={config.backend} needs jobs= of 2 or more")
    check_backend(config.backend)
    for name in ("lr", "clip_grad"):
        value = getattr(config, name)
        if isinstance(value, str) and (name, value) != ("lr", "auto"):
            raise InputError(f"{name}= must be a number, got {value!r}")
        if value not in (None, "auto") and not 0 < value < math.inf:
            raise InputError(f"{name}= must be positive and finite, got {value}")
    for name in ("lambd", "tolerance"):
        value = getattr(config, name)
        if not 0 <= value < math.inf:
            raise InputError(f"{name}= must be finite and not negative, got {value}")
    for name in ("target_density", "topk"):
        share = getattr(config, name)
        if share is not None and not 0 < share <= 1:
            raise InputError(f"{name}= must be in (0, 1], got {share}")


def _parse_hidden(text: str) -> tuple[int, ...]:
    try:
        widths = tuple(int(part) for part in text.split(","))
    except ValueError:
        widths = ()
    if not widths or min(widths) < 1:
        raise InputError(f"hidden= takes widths such as 256,128; got {text!r}")
    return widths


def _parse_sweep(text: str) -> Sweep:
    knob, _, grid = text.partition("=")
    knobs = ("lambd", *PENALTIES)
    if knob not in knobs:
        raise unknown("sweep= name", knob, knobs)
    parts = grid.split(":")
    if len(parts) != 3 or not parts[2].isdecimal() or int(parts[2]) < 2:
        raise InputError(f"sweep= takes NAME=LOW:HIGH:COUNT, such as l1=1e-6:1e-2:6; got {text!r}")
    low, high = (parse_positive("sweep", part) for part in parts[:2])
    if low >= high:
        raise InputError(f"sweep= needs LOW < HIGH, got {text!r}")
    ratio = (high / low) ** (1 / (int(parts[2]) - 1))
    return Sweep(knob, tuple(low * ratio**i for i in range(int(parts[2]))))
