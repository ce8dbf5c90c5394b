"""Find the λ, k or penalty strength that gives a target density."""

import contextlib
import itertools
import math
from dataclasses import dataclass, field

from sparsact._common.extras import require
from sparsact.compare.settings.compared_activations import Knob
from sparsact.compare.settings.training_plan import Setting
from sparsact.compare.training.knobs import RANGES, next_value, rounded, turn, value_of
from sparsact.compare.training.trial_record import TrialRecord
from sparsact.compare.training.trials import WARM_STRETCHES, Trials, is_warm_cheaper

ROUNDS = {"lambd": 12, "strength": 12, "k": 4}
"""At most so many trainings; k gives most densities at once."""
CLOSE_ENOUGH = 0.05
NEAR_THE_END = 1.1
FARTHEST_MISS = 10.0
RESOLUTION = 1e-3


class _Spent(Exception):
    """All trainings of the search are done."""


@dataclass
class _Search:
    """The trainings of one search.

    Attributes:
        setting: what is tuned.
        knob: by what.
        target: density on the validation part.
        trials: trains.
        misses: value → logarithm of the density over the target, in the order of the trainings.
    """

    setting: Setting
    knob: Knob
    target: float
    trials: Trials
    misses: dict[float, float] = field(default_factory=dict)

    def at(self, value: float) -> Setting:
        """The setting with a value."""
        return turn(self.setting, value, self.knob)

    def miss(self, value: float) -> float:
        """Train with a value; 0 if the density is close enough."""
        value = rounded(value)
        if value not in self.misses:
            if len(self.misses) == ROUNDS[self.knob]:
                raise _Spent
            density = _density(self.trials.run(self.at(value)))
            self.misses[value] = self.miss_of(density)
        return self.misses[value]

    def miss_of(self, density: float) -> float:
        """The logarithm of a density over the target, within bounds; 0 if it is close enough."""
        if is_close(density, self.target):
            return 0.0
        if density == 0:
            return -FARTHEST_MISS
        return max(math.log(density / self.target), -FARTHEST_MISS)

    def seen(self) -> list[tuple[float, float]]:
        """The values so far, and their densities."""
        return [(value, self.target * math.exp(miss)) for value, miss in self.misses.items()]

    def bracket(self) -> tuple[float, float] | None:
        """Two neighbouring values on either side of the target; None if there are none yet."""
        values = sorted(self.misses)
        for low, high in itertools.pairwise(values):
            if self.misses[low] * self.misses[high] < 0:
                return low, high
        return None


def find_setting(setting: Setting, target: float, trials: Trials) -> Setting:
    """The setting whose density on the validation part comes closest to `target`.

    A first training is continued for a few epochs at a time with other values, where that is
    cheaper than new trainings: this gives a guess. Trainings from the start follow: on the line
    through the last two until the target lies between two, and then by Brent's method between
    these, all on log scales.

    Args:
        setting: the activation to tune. One without exact zeros is returned unchanged; of a
            user's, a training tells.
        target: density on the validation part.
        trials: trains a setting from seed 0.
    """
    knob = setting.kind.knob
    if knob is None:
        return setting
    if setting.own is not None and _has_no_zeros(trials.run(setting)):
        return setting
    if knob == "strength" and setting.kind.learned:
        return _learned(setting, target, trials)
    return _tuned(setting, knob, target, trials, _first_value(setting, target, trials))


def _learned(setting: Setting, target: float, trials: Trials) -> Setting:
    """A trained λ: by a penalty, or by the λ it starts from, if it is too sparse already."""
    value = _first_value(setting, target, trials)
    density = _density(trials.run(turn(setting, value)))
    is_too_sparse = density < target and not is_close(density, target)
    if is_too_sparse and setting.penalty is None and setting.level:
        return _tuned(setting, "lambd", target, trials, setting.level)
    return _tuned(setting, "strength", target, trials, value)


def _tuned(
    setting: Setting, knob: Knob, target: float, trials: Trials, first_value: float
) -> Setting:
    search = _Search(setting, knob, target, trials)
    with contextlib.suppress(_Spent):
        _look(search, first_value)
    best = min(search.misses, key=lambda value: abs(search.misses[value]))
    return search.at(best)


def _first_value(setting: Setting, target: float, trials: Trials) -> float:
    if setting.kind.knob == "k":
        return target
    value = value_of(setting)
    return value if value else trials.first_strength(setting)


def _look(search: _Search, value: float) -> None:
    """Train with one value after the other, until one is close enough or none can be."""
    if search.miss(value) == 0:
        return
    if search.knob != "k" and is_warm_cheaper(search.trials.epochs):
        value = _warm_guess(search)
    else:
        value = _farther(search)
    while search.miss(value) != 0:
        between = search.bracket()
        if between is not None:
            _between(search, *between)
            return
        value = _farther(search)
        if value in search.misses:  # the range ends here
            return


def _warm_guess(search: _Search) -> float:
    """The value at which the first training, continued, comes close to the target."""
    seen = search.seen()
    path = search.trials.warm_path(search.at(seen[0][0]))
    for _ in range(WARM_STRETCHES):
        value = next_value(search.knob, seen[-2:], search.target)
        if value == seen[-1][0]:
            break
        seen.append((value, path(search.at(value))))
        if is_close(seen[-1][1], search.target):
            break
    return seen[-1][0]


def _farther(search: _Search) -> float:
    """The next value on the side of the target, a little beyond where it is expected."""
    seen = search.seen()[-2:]
    beyond = 0.8 if seen[-1][1] > search.target else 1.25
    return next_value(search.knob, seen, search.target * beyond)


def _between(search: _Search, low: float, high: float) -> None:
    """Brent's method, which ends at a miss of exactly 0."""
    require("scipy.optimize", "compare").brentq(
        lambda x: search.miss(math.exp(x)),
        math.log(low),
        math.log(high),
        xtol=RESOLUTION,
        maxiter=ROUNDS[search.knob],
        disp=False,
    )


def why_missed(setting: Setting) -> str:
    """Why a search did not reach its density: the range ended, or no value in it did."""
    knob = setting.kind.knob
    if knob is None:
        return "its outputs are never exactly zero"
    value = value_of(setting) or 0.0
    low, high = RANGES[knob]
    name = {"strength": "penalty", "lambd": "λ", "k": "k"}[knob]
    if value > high / NEAR_THE_END:
        return f"the largest {name} that is tried"
    if value < low * NEAR_THE_END:
        return f"the smallest {name} that is tried"
    if knob == "k":
        return "k is a share of the channels, rounded"
    return f"no {name} that was tried came closer"


def is_close(density: float, target: float) -> bool:
    """Whether a density is within 5% of the target."""
    return abs(density / target - 1) <= CLOSE_ENOUGH


def _density(record: TrialRecord) -> float:
    return record.validation_density if record.status == "finished" else 0.0


def _has_no_zeros(record: TrialRecord) -> bool:
    """Whether a user's activation gave no zero at all, so that no penalty will make zeros."""
    return record.status == "finished" and record.validation_density == 1
