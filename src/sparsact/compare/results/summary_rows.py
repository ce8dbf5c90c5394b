"""The rows of the table: means over seeds, the Pareto front, the choice."""

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sparsact.compare.results.significance import paired_p_values, standard_error
from sparsact.compare.settings.training_plan import Setting
from sparsact.compare.training.forward_timing import ForwardTimes, is_faster
from sparsact.compare.training.trial_record import LayerRecord, TrialRecord
from sparsact.report.comparison.comparison_records import SettingRow, Spread

NEAR_REFERENCE = 0.95


def summarise(
    settings: Sequence[Setting],
    records: Sequence[TrialRecord],
    step_ratios: dict[str, float],
    tolerance: float,
    forward_times: Mapping[str, ForwardTimes] | None = None,
) -> list[SettingRow]:
    """A row per setting that has trainings, in the given order.

    The choice is the sparsest setting whose mean validation score is within `tolerance` of the
    best one; a setting with a diverged training cannot be chosen. The values of the rows are
    measured on the test part, which does not influence the choice.
    """
    grouped = {
        setting: [record for record in records if record.setting == setting.label]
        for setting in settings
    }
    grouped = {setting: group for setting, group in grouped.items() if group}
    aim = _reference_aim(grouped)
    rows = {setting: _row(setting, group, step_ratios, aim) for setting, group in grouped.items()}
    front = _pareto_front(rows.values())
    pick = _pick(grouped, tolerance)
    p_values = paired_p_values(*_scores_by_seed(grouped))
    return [
        replace(
            row,
            on_front=row.label in front,
            picked=setting == pick,
            p_value=p_values.get(row.label),
            **_times((forward_times or {}).get(row.label)),
        )
        for setting, row in rows.items()
    ]


def _times(measured: ForwardTimes | None) -> dict[str, Any]:
    """The times of a forward; that of sparse layers only where it is the shorter."""
    if measured is None:
        return {}
    times = dataclasses.asdict(measured)
    if not is_faster(measured):
        times["sparse_sample_ms"] = None
    return times


def _scores_by_seed(
    grouped: dict[Setting, list[TrialRecord]],
) -> tuple[dict[str, dict[int, float]], str | None]:
    """Label → seed → test score, and the label of ReLU, without a penalty if that was trained."""
    scores = {
        setting.label: {r.seed: r.test_score for r in group if r.test_score is not None}
        for setting, group in grouped.items()
    }
    relu = [setting for setting in grouped if setting.activation == "relu"]
    relu.sort(key=lambda setting: setting.penalty is not None)
    return scores, relu[0].label if relu else None


def _row(
    setting: Setting,
    group: list[TrialRecord],
    step_ratios: dict[str, float],
    aim: float | None,
) -> SettingRow:
    finished = [record for record in group if record.status == "finished"]

    def over_layers(value: Callable[[LayerRecord], float]) -> Spread | None:
        return _spread(
            [
                record.over_layers(tuple(value(layer) for layer in record.layers))
                for record in finished
            ]
        )

    scores = [record.test_score for record in finished if record.test_score is not None]
    is_continued = setting.point is not None and setting.point.number > 1
    epochs = [None if is_continued else _first_epoch(record, aim) for record in finished]
    return SettingRow(
        label=setting.label,
        activation=setting.activation,
        trainings=len(group),
        diverged=len(group) - len(finished),
        score=_spread(scores),
        density=over_layers(lambda layer: layer.density),
        dead=over_layers(lambda layer: layer.dead),
        zero_gradient=over_layers(lambda layer: layer.zero_gradient),
        epochs_to_reference=(
            _spread([float(epoch) for epoch in epochs if epoch is not None])
            if all(epoch is not None for epoch in epochs)
            else None
        ),
        step_ratio=step_ratios.get(setting.activation),
        learned_lambda=over_layers(lambda layer: layer.lambd or 0.0)
        if setting.kind.learned
        else None,
        on_front=False,
        picked=False,
        score_error=standard_error(scores),
        validation_score=(
            statistics.fmean(record.validation_score for record in finished) if finished else None
        ),
        multiply_adds=_mean([record.multiply_adds for record in finished]),
        needed_multiply_adds=_mean([record.needed_multiply_adds for record in finished]),
        annealed=setting.point.number if setting.point else None,
        value=_mean([record.value for record in finished]),
        family=_family(setting),
    )


def _family(setting: Setting) -> str:
    """Where the zeros of an activation come from."""
    kind = setting.kind
    if setting.own is not None:
        return "your own"
    if not kind.entrywise:
        return "top-k and groups"
    if not kind.zeros:
        return "without exact zeros"
    if kind.takes is None:
        return "rectifiers"
    return "learned thresholds" if kind.learned else "fixed thresholds"


def _mean(values: list[float | None]) -> float | None:
    """The mean of the values that are known."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _spread(values: list[float]) -> Spread | None:
    if not values:
        return None
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def _reference_aim(grouped: dict[Setting, list[TrialRecord]]) -> float | None:
    """95% of ReLU's mean final validation score, if that is positive."""
    relu = next((group for setting, group in grouped.items() if setting.activation == "relu"), [])
    final = [record.validation_score for record in relu if record.status == "finished"]
    if not final or statistics.fmean(final) <= 0:
        return None
    return NEAR_REFERENCE * statistics.fmean(final)


def _first_epoch(record: TrialRecord, aim: float | None) -> int | None:
    if aim is None:
        return None
    return next((i for i, s in enumerate(record.validation_scores, 1) if s >= aim), None)


def _pareto_front(rows: Iterable[SettingRow]) -> set[str]:
    """Labels of the rows for which no other row is both at least as sparse and at least as good."""
    front: set[str] = set()
    best = float("-inf")
    points = [
        (row.density.mean, -row.score.mean, row.label)
        for row in rows
        if row.density is not None and row.score is not None
    ]
    for _, negative_score, label in sorted(points):
        if -negative_score > best:
            best = -negative_score
            front.add(label)
    return front


def _pick(grouped: dict[Setting, list[TrialRecord]], tolerance: float) -> Setting | None:
    score_and_density = {
        setting: (
            statistics.fmean(record.validation_score for record in group),
            statistics.fmean(record.validation_density for record in group),
        )
        for setting, group in grouped.items()
        if all(record.status == "finished" for record in group)
    }
    if not score_and_density:
        return None
    best = max(score for score, _ in score_and_density.values())
    close = {
        setting: (density, -score)
        for setting, (score, density) in score_and_density.items()
        if score >= best - tolerance
    }
    return min(close, key=close.__getitem__)
