"""Find the learning rate that suits a setting: one rate for all activations is not fair."""

from collections.abc import Callable
from dataclasses import replace

from sparsact.compare.settings.training_plan import Setting
from sparsact.compare.training.training import TrialRecord

RATES = (3e-4, 1e-3, 3e-3, 1e-2)


def find_rate(setting: Setting, run: Callable[[Setting], TrialRecord]) -> Setting:
    """The setting with the rate of :data:`RATES` that has the best validation score.

    Args:
        setting: the setting.
        run: trains a setting once, from seed 0.
    """
    scores = {}
    for rate in RATES:
        candidate = replace(setting, lr=rate)
        record = run(candidate)
        if record.status == "finished":
            scores[candidate] = record.validation_score
    return max(scores, key=scores.__getitem__) if scores else replace(setting, lr=RATES[0])
