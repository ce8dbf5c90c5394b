"""Turn the trainings of a run into the records of its report."""

import statistics
from collections.abc import Mapping, Sequence

import torch

from sparsact.compare.problems.problem import Problem
from sparsact.compare.results.summary_rows import summarise
from sparsact.compare.settings.activation_curves import trace_curves
from sparsact.compare.settings.training_plan import Plan, Setting
from sparsact.compare.training.density_search import is_close, why_missed
from sparsact.compare.training.forward_timing import (
    FEWEST_WEIGHTS,
    FEWEST_ZEROS,
    REPEATS,
    ForwardTimes,
    is_faster,
)
from sparsact.compare.training.trial_record import TrialRecord
from sparsact.meters import Histogram
from sparsact.report.comparison.comparison_records import (
    Baseline,
    ComparisonReport,
    DensityTrace,
    HistogramTrace,
    LambdaTrace,
    LearningTrace,
    SettingRow,
)


def make_report(
    plan: Plan,
    problem: Problem,
    settings: Sequence[Setting],
    records: Sequence[TrialRecord],
    step_ratios: dict[str, float],
    forward_times: Mapping[str, ForwardTimes] | None = None,
) -> ComparisonReport:
    """Everything that the page, the picture and the terminal show."""
    tolerance, score_name = plan.config.tolerance, problem.score.name
    forwards = forward_times or {}
    rows = summarise(settings, records, step_ratios, tolerance, forwards)
    shown = {row.label for row in rows}
    grouped: dict[str, list[TrialRecord]] = {}
    for record in records:
        if record.status == "finished" and record.setting in shown:
            grouped.setdefault(record.setting, []).append(record)
    return ComparisonReport(
        title=problem.title,
        facts=(*_facts(plan, problem), *_about_times(plan, rows, forwards)),
        conclusion=_conclusion(rows, score_name, tolerance)
        + _significance(rows, plan.config.seeds)
        + _no_better_than(problem.baseline, rows)
        + _missed_targets(plan.config.target_density, settings, grouped),
        score_name=score_name,
        rows=tuple(rows),
        densities=_density_traces(grouped),
        histograms=_histogram_traces(grouped),
        curves=trace_curves([setting for setting in settings if setting.label in shown]),
        baseline=problem.baseline,
        notes=problem.notes,
        learning=tuple(_learning_trace(label, group) for label, group in grouped.items()),
        lambdas=_lambda_traces(grouped),
    )


def _facts(plan: Plan, problem: Problem) -> tuple[str, ...]:
    penalties = [
        f"{where} penalty {strength.kind}={strength.value:g}"
        for where, strength in [("activation", plan.penalty), ("weight", plan.weight_penalty)]
        if strength is not None
    ]
    return (
        *problem.facts,
        *penalties,
        *problem.notes,
        *_about_frontiers(plan),
        "density, dead units and zero gradients are measured on the test part; the choice is "
        "made on the validation part",
        "p compares with ReLU: a paired t-test over the seeds, adjusted for the number of settings",
    )


def _about_frontiers(plan: Plan) -> tuple[str, ...]:
    """What the points of a frontier are, and which activations have none."""
    if plan.config.frontier is None:
        return ()
    without = [setting.label for setting in plan.settings if setting.point is None]
    points = (
        f"annealed 1/{plan.config.frontier} is an ordinary training; the other points continue it "
        "for a few epochs each, while its λ, k or penalty changes"
    )
    if not without:
        return (points,)
    return points, f"without a frontier, since they are never exactly zero: {', '.join(without)}"


def _about_times(
    plan: Plan, rows: Sequence[SettingRow], forwards: Mapping[str, ForwardTimes]
) -> tuple[str, ...]:
    """How the times of a forward were measured, and where layers that skip zeros save time."""
    missing = [row.label for row in rows if row.label not in forwards]
    lines = []
    if missing:
        lines.append(f"no time of a forward was measured for {', '.join(missing)}")
    if not forwards:
        return tuple(lines)
    where = f"on {plan.device.type}"
    if plan.device.type == "cpu":
        where += f" with {torch.get_num_threads()} threads"
    lines.append(f"the time of a forward is the median of at most {REPEATS}, dense, {where}")
    tried = {label for label, times in forwards.items() if times.sparse_sample_ms is not None}
    faster = [label for label in tried if is_faster(forwards[label])]
    if not tried:
        lines.append(
            "SparseLinear was not tried: no linear layer with "
            f"{FEWEST_WEIGHTS} weights reads {FEWEST_ZEROS:.0%} zeros on a CPU"
        )
    else:
        lines.append(
            f"SparseLinear was tried for {len(tried)} settings and is faster for one sample in "
            f"{len(faster)} of them"
        )
    return tuple(lines)


def _conclusion(rows: Sequence[SettingRow], score_name: str, tolerance: float) -> str:
    picked = next((row for row in rows if row.picked), None)
    if picked is None or picked.density is None or picked.score is None:
        return "No setting finished all its trainings."
    return (
        f"{picked.label} is the sparsest setting within {tolerance:g} of the best validation "
        f"{score_name}: {picked.density.mean:.1%} of its activations are non-zero, test "
        f"{score_name} {picked.score.mean:.3f}."
    )


def _significance(rows: Sequence[SettingRow], seeds: int) -> str:
    """A sentence about the difference between the choice and ReLU, so that noise is not crowned."""
    picked = next((row for row in rows if row.picked), None)
    if picked is None or picked.activation == "relu":
        return ""
    if seeds == 1:
        return " One seed cannot tell its score from ReLU's: take more seeds."
    if picked.p_value is None:
        return ""
    differs = "differs" if picked.differs else "cannot be told"
    return f" Its score {differs} from ReLU's over {seeds} seeds (p = {picked.p_value:.2g})."


def _no_better_than(baseline: Baseline | None, rows: Sequence[SettingRow]) -> str:
    """A warning, if the choice does no better than a constant prediction."""
    picked = next((row for row in rows if row.picked), None)
    if baseline is None or picked is None or picked.validation_score is None:
        return ""
    if picked.validation_score > baseline.validation_score:
        return ""
    return (
        f" It does no better than a constant prediction ({baseline.label}: "
        f"{baseline.score:.3f}): train longer, or look at the data."
    )


def _missed_targets(
    target: float | None, settings: Sequence[Setting], grouped: dict[str, list[TrialRecord]]
) -> str:
    """A sentence about the searches that missed: density need not fall steadily with λ."""
    if target is None:
        return ""
    reached = {
        setting: statistics.fmean(r.validation_density for r in grouped[setting.label])
        for setting in settings
        if setting.label in grouped
    }
    missed = [
        f"{setting.label} ({density:.1%}; {why_missed(setting)})"
        for setting, density in reached.items()
        if not is_close(density, target)
    ]
    if not missed:
        return ""
    return (
        f" On the validation part, where λ is chosen, the target of {target:.1%} was not "
        f"reached by {', '.join(missed)}."
    )


def _mean(groups: Sequence[Sequence[float]]) -> tuple[float, ...]:
    return tuple(statistics.fmean(values) for values in zip(*groups, strict=True))


def layer_name(record: TrialRecord, index: int) -> str:
    """The place of a layer in the network."""
    return record.layers[index].name or f"layer {index + 1}"


def _density_traces(grouped: dict[str, list[TrialRecord]]) -> tuple[DensityTrace, ...]:
    return tuple(
        DensityTrace(
            label,
            layer_name(group[0], layer),
            _mean([[epoch[layer] for epoch in record.densities] for record in group]),
        )
        for label, group in grouped.items()
        for layer in range(len(group[0].layers))
    )


def _learning_trace(label: str, group: Sequence[TrialRecord]) -> LearningTrace:
    scores = [record.validation_scores for record in group]
    if len(group) == 1:
        return LearningTrace(label, scores[0])
    spreads = tuple(statistics.stdev(values) for values in zip(*scores, strict=True))
    return LearningTrace(label, _mean(scores), spreads)


def _lambda_traces(grouped: dict[str, list[TrialRecord]]) -> tuple[LambdaTrace, ...]:
    return tuple(
        LambdaTrace(
            label,
            layer_name(group[0], layer),
            _mean([[epoch[layer] for epoch in record.lambdas] for record in group]),
        )
        for label, group in grouped.items()
        if all(record.lambdas for record in group)
        for layer in range(len(group[0].layers))
    )


def _histogram_traces(grouped: dict[str, list[TrialRecord]]) -> tuple[HistogramTrace, ...]:
    traces = []
    for label, group in grouped.items():
        for number, layer in enumerate(group[0].layers):
            total = sum(layer.counts)
            if total:
                edges = Histogram(layer.limit, layer.counts).edges
                centres = _mean([edges[:-1], edges[1:]])
                share = tuple(count / total for count in layer.counts)
                traces.append(HistogramTrace(label, layer_name(group[0], number), centres, share))
    return tuple(traces)
