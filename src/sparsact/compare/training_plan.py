"""From the arguments of a comparison to the settings that it trains."""

import math
from dataclasses import dataclass

import torch

from sparsact._common.errors import InputError, unknown
from sparsact.compare.compare_config import CompareConfig
from sparsact.compare.compared_activations import ACTIVATIONS, parse_activations
from sparsact.compare.compared_penalties import (
    PENALTIES,
    Strength,
    parse_positive,
    parse_strength,
)


@dataclass(frozen=True)
class Setting:
    """One choice of activation, threshold and penalty; it is trained once per seed."""

    activation: str
    level: float | None = None
    penalty: Strength | None = None

    @property
    def label(self) -> str:
        """A name that is unique within a run."""
        parts = [self.activation]
        if self.level is not None:
            knob = "λ" if ACTIVATIONS[self.activation].takes == "lambd" else "k/n"
            start = "₀" if ACTIVATIONS[self.activation].learned else ""
            parts.append(f"{knob}{start}={self.level:.4g}")
        if self.penalty is not None:
            parts.append(f"{self.penalty.kind}={self.penalty.value:.4g}")
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


def make_plan(config: CompareConfig) -> Plan:
    """Check every argument and list the settings to train.

    Raises:
        InputError: an argument does not make sense.
    """
    _check_numbers(config)
    if config.sweep is not None and config.target_density is not None:
        raise InputError("sweep= and target_density= exclude each other")
    penalty = parse_strength("penalty", config.penalty)
    sweep = None if config.sweep is None else _parse_sweep(config.sweep)
    if sweep is not None and sweep.knob != "lambd" and penalty is not None:
        raise InputError(f"a sweep= over {sweep.knob} sets the penalty itself; leave out penalty=")
    settings = [
        setting
        for name in parse_activations(config.activations)
        for setting in _settings_of(name, config, penalty, sweep)
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
        device=_parse_device(config.device),
    )


def _settings_of(
    name: str, config: CompareConfig, penalty: Strength | None, sweep: Sweep | None
) -> list[Setting]:
    takes = ACTIVATIONS[name].takes
    level = {"lambd": config.lambd, "k": config.topk, None: None}[takes]
    if sweep is None or (sweep.knob == "lambd" and takes != "lambd"):
        return [Setting(name, level, penalty)]
    if sweep.knob == "lambd":
        return [Setting(name, value, penalty) for value in sweep.values]
    return [Setting(name, level, Strength(sweep.knob, value)) for value in sweep.values]


def _check_numbers(config: CompareConfig) -> None:
    for name in ("epochs", "batch_size", "seeds", "image_size"):
        count = getattr(config, name)
        if count < 1:
            raise InputError(f"{name}= must be at least 1, got {count}")
    for name in ("lr", "clip_grad"):
        value = getattr(config, name)
        if value is not None and not 0 < value < math.inf:
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


def _parse_device(text: str) -> torch.device:
    try:
        device = torch.device(text)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device={text} cannot be used here: {reason}") from error
    if device.type == "meta":
        raise InputError("device=meta stores no values, so nothing can be trained on it")
    return device


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
