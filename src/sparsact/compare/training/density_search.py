"""Find the λ, k or penalty strength that gives a target density."""

import math
from collections.abc import Callable
from dataclasses import replace

from sparsact.compare.settings.compared_penalties import Strength
from sparsact.compare.settings.training_plan import Setting
from sparsact.compare.training.training import TrialRecord

ROUNDS = 9
CLOSE_ENOUGH = 0.05
NEAR_THE_END = 1.1
RANGES = {"lambd": (1e-3, 10.0), "strength": (1e-6, 1.0)}


def find_setting(setting: Setting, target: float, run: Callable[[Setting], TrialRecord]) -> Setting:
    """The setting whose density comes closest to `target`, by bisection on a log scale.

    Args:
        setting: the activation to tune. One without exact zeros is returned unchanged; of a
            user's, a training tells.
        target: density on the validation part.
        run: trains a setting once, from seed 0.
    """
    knob = setting.kind.knob
    if knob is None:
        return setting
    if knob == "k":
        return replace(setting, level=target)
    if setting.own is not None and _has_no_zeros(run(setting)):
        return setting
    low, high = RANGES[knob]
    best, best_miss = setting, math.inf
    for _ in range(ROUNDS):
        middle = math.sqrt(low * high)
        candidate = _turn(setting, knob, middle)
        record = run(candidate)
        density = record.validation_density if record.status == "finished" else 0.0
        miss = math.inf if density == 0 else abs(math.log(density / target))
        if miss < best_miss:
            best, best_miss = candidate, miss
        if is_close(density, target):
            break
        if density > target:
            low = middle
        else:
            high = middle
    return best


def is_searched(setting: Setting) -> bool:
    """Whether trainings are needed to reach a density: k gives it at once."""
    return setting.kind.knob in RANGES


def why_missed(setting: Setting) -> str:
    """Why a search did not reach its density: the range ended, or no value in it did."""
    knob = setting.kind.knob
    if knob not in RANGES:
        return "k is a share of the channels, rounded"
    penalty = 0.0 if setting.penalty is None else setting.penalty.value
    value = penalty if knob == "strength" else setting.level or 0.0
    low, high = RANGES[knob]
    name = "penalty" if knob == "strength" else "λ"
    if value > high / NEAR_THE_END:
        return f"the largest {name} that is tried"
    if value < low * NEAR_THE_END:
        return f"the smallest {name} that is tried"
    return f"no {name} that was tried came closer"


def is_close(density: float, target: float) -> bool:
    """Whether a density is within 5% of the target."""
    return abs(density / target - 1) <= CLOSE_ENOUGH


def _has_no_zeros(record: TrialRecord) -> bool:
    """Whether a user's activation gave no zero at all, so that no penalty will make zeros."""
    return record.status == "finished" and record.validation_density == 1


def _turn(setting: Setting, knob: str, value: float) -> Setting:
    value = float(f"{value:.4g}")  # the label shows all of it
    if knob == "lambd":
        return replace(setting, level=value)
    penalty = setting.penalty or Strength("l1", value)
    return replace(setting, penalty=replace(penalty, value=value))
