"""What a comparison is told: the flags, and what they mean once parsed."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import tyro

from sparsact._common.errors import InputError, unknown
from sparsact.compare.activations import ACTIVATIONS, parse_activations
from sparsact.penalties import L1, L2, ElasticNet, Penalty

PENALTIES = {"l1": L1, "l2": L2, "elastic_net": ElasticNet}


@dataclass(frozen=True)
class CompareConfig:
    """Train the same network with each activation on the same data, and compare."""

    data: tyro.conf.Positional[str] = "digits"
    """digits, breast_cancer, diabetes, a .npz (x, y), a .csv with a header, or a folder of images
    whose sub-folders are the classes."""
    target: str | None = None
    """Column of a .csv to predict."""
    task: Literal["auto", "classify", "regress", "reconstruct"] = "auto"
    """What to learn; auto infers it from the target."""
    loss: Literal["mse", "smooth_l1"] = "mse"
    """Loss of regress and reconstruct."""
    image_size: int = 32
    """Side in pixels to which the images of a folder are resized."""
    activations: str = "all"
    """Comma-separated names, or all. ReLU is always trained, as the reference."""
    hidden: str = "256,128"
    """Widths of the hidden layers."""
    lambd: float = 0.5
    """λ of the threshold kinds; where λ is learned, where it starts."""
    topk: float = 0.1
    """Share of the units of each layer that topk keeps."""
    penalty: str | None = None
    """Penalty on the activations: l1=1e-4, l2=1e-4 or elastic_net=1e-4 (per sample)."""
    weight_penalty: str | None = None
    """Penalty on the weights, in the same form."""
    sweep: str | None = None
    """Log grid LOW:HIGH:COUNT of λ or of the penalty's strength: lambd=0.01:1:6 or
    l1=1e-6:1e-2:6."""
    target_density: float | None = None
    """Find the λ, k or penalty strength that gives this share of non-zero activations."""
    epochs: int = 30
    """Passes over the training part."""
    batch_size: int = 64
    """Samples per step."""
    lr: float = 1e-3
    """Learning rate."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """Optimizer; sgd has momentum 0.9."""
    clip_grad: float | None = None
    """Clip the norm of the whole gradient to this."""
    seeds: int = 3
    """Trainings per setting, from seeds 0, 1, …"""
    device: str = "cpu"
    """Where to train."""
    out: str | None = None
    """Run directory; by default runs/compare-DATA-TIME."""
    resume: Annotated[str | None, tyro.conf.arg(metavar="RUN")] = None
    """Finish an interrupted run; its settings come from its config.json."""
    tolerance: float = 0.01
    """How much validation score may be given up for sparsity in the final choice."""


@dataclass(frozen=True)
class Strength:
    """A penalty kind and its coefficient."""

    kind: str
    value: float

    def build(self) -> Penalty:
        """The penalty itself."""
        penalty: Penalty = PENALTIES[self.kind](self.value)
        return penalty


@dataclass(frozen=True)
class Setting:
    """One choice of activation, threshold and penalty: what is trained once per seed."""

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
    """A log grid over λ or over the strength of a penalty."""

    knob: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Plan:
    """A checked configuration: the settings to train and how."""

    config: CompareConfig
    hidden: tuple[int, ...]
    settings: tuple[Setting, ...]
    penalty: Strength | None
    weight_penalty: Strength | None
    device: torch.device


def make_plan(config: CompareConfig) -> Plan:
    """Check every flag and lay out what is to be trained.

    Raises:
        InputError: a flag does not make sense.
    """
    _check_numbers(config)
    if config.sweep is not None and config.target_density is not None:
        raise InputError("--sweep and --target-density exclude each other")
    penalty = _parse_strength("--penalty", config.penalty)
    sweep = None if config.sweep is None else _parse_sweep(config.sweep)
    if sweep is not None and sweep.knob != "lambd" and penalty is not None:
        raise InputError(f"--sweep {sweep.knob} sets the penalty itself; leave out --penalty")
    settings = [
        setting
        for name in parse_activations(config.activations)
        for setting in _settings_of(name, config, penalty, sweep)
    ]
    labels = [setting.label for setting in settings]
    if len(set(labels)) < len(labels):
        raise InputError(f"--sweep {config.sweep} has values that agree to four digits")
    return Plan(
        config=config,
        hidden=_parse_hidden(config.hidden),
        settings=tuple(settings),
        penalty=penalty,
        weight_penalty=_parse_strength("--weight-penalty", config.weight_penalty),
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
    for flag, value, least in [
        ("--epochs", config.epochs, 1),
        ("--batch-size", config.batch_size, 1),
        ("--seeds", config.seeds, 1),
        ("--image-size", config.image_size, 1),
    ]:
        if value < least:
            raise InputError(f"{flag} must be at least {least}, got {value}")
    for flag, number in [("--lr", config.lr), ("--clip-grad", config.clip_grad)]:
        if number is not None and not 0 < number < math.inf:
            raise InputError(f"{flag} must be positive and finite, got {number}")
    for flag, number in [("--lambd", config.lambd), ("--tolerance", config.tolerance)]:
        if not 0 <= number < math.inf:
            raise InputError(f"{flag} must be finite and not negative, got {number}")
    for flag, number in [("--target-density", config.target_density), ("--topk", config.topk)]:
        if number is not None and not 0 < number <= 1:
            raise InputError(f"{flag} must lie in (0, 1], got {number}")


def _parse_hidden(text: str) -> tuple[int, ...]:
    try:
        widths = tuple(int(part) for part in text.split(","))
    except ValueError:
        widths = ()
    if not widths or min(widths) < 1:
        raise InputError(f"--hidden takes widths such as 256,128, got {text!r}")
    return widths


def _parse_device(text: str) -> torch.device:
    try:
        device = torch.device(text)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"--device {text} cannot be used here: {reason}") from error
    if device.type == "meta":
        raise InputError("--device meta holds no values, so nothing can be trained on it")
    return device


def _parse_number(flag: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise InputError(f"{flag}: expected a positive number, got {text!r}")
    return value


def _parse_strength(flag: str, text: str | None) -> Strength | None:
    if text is None:
        return None
    kind, _, value = text.partition("=")
    if kind not in PENALTIES:
        raise unknown(f"{flag} kind", kind, PENALTIES)
    return Strength(kind, _parse_number(flag, value))


def _parse_sweep(text: str) -> Sweep:
    knob, _, grid = text.partition("=")
    if knob not in ("lambd", *PENALTIES):
        raise unknown("--sweep knob", knob, ("lambd", *PENALTIES))
    parts = grid.split(":")
    if len(parts) != 3 or not parts[2].isdecimal() or int(parts[2]) < 2:
        raise InputError(f"--sweep takes NAME=LOW:HIGH:COUNT, such as l1=1e-6:1e-2:6, got {text!r}")
    low, high = (_parse_number("--sweep", part) for part in parts[:2])
    if low >= high:
        raise InputError(f"--sweep needs LOW < HIGH, got {text!r}")
    ratio = (high / low) ** (1 / (int(parts[2]) - 1))
    return Sweep(knob, tuple(low * ratio**i for i in range(int(parts[2]))))
