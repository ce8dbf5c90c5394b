"""Turn the trainings of a run into the records of its report."""

import statistics
from collections.abc import Sequence

from sparsact.compare.activation_curves import trace_curves
from sparsact.compare.compared_activations import ACTIVATIONS
from sparsact.compare.data import SplitData
from sparsact.compare.density_search import is_close
from sparsact.compare.summary_rows import summarise
from sparsact.compare.training import TrialRecord
from sparsact.compare.training_plan import Plan, Setting
from sparsact.meters import Histogram
from sparsact.report.comparison.comparison_records import (
    ComparisonReport,
    DensityTrace,
    HistogramTrace,
    SettingRow,
)

TASKS = {"classify": "classification", "regress": "regression", "reconstruct": "reconstruction"}


def make_report(
    plan: Plan,
    data: SplitData,
    settings: Sequence[Setting],
    records: Sequence[TrialRecord],
    step_ratios: dict[str, float],
) -> ComparisonReport:
    """Everything that the page, the picture and the terminal show."""
    tolerance = plan.config.tolerance
    score_name = "accuracy" if data.task == "classify" else "R²"
    rows = summarise(settings, records, step_ratios, tolerance)
    shown = {row.label for row in rows}
    grouped: dict[str, list[TrialRecord]] = {}
    for record in records:
        if record.status == "finished" and record.setting in shown:
            grouped.setdefault(record.setting, []).append(record)
    return ComparisonReport(
        title=f"Activations on {data.name}: {TASKS[data.task]}",
        facts=_facts(plan, data),
        conclusion=_conclusion(rows, score_name, tolerance)
        + _missed_targets(plan.config.target_density, settings, grouped),
        score_name=score_name,
        rows=tuple(rows),
        densities=_density_traces(grouped),
        histograms=_histogram_traces(grouped),
        curves=trace_curves([setting for setting in settings if setting.label in shown]),
    )


def _facts(plan: Plan, data: SplitData) -> tuple[str, ...]:
    config = plan.config
    penalties = [
        f"{where} penalty {strength.kind}={strength.value:g}"
        for where, strength in [("activation", plan.penalty), ("weight", plan.weight_penalty)]
        if strength is not None
    ]
    parts = (data.train, data.validation, data.test)
    return (
        f"{' / '.join(str(len(part.x)) for part in parts)} samples to train, validate and test; "
        f"{data.train.x.shape[1]} inputs, hidden layers {config.hidden}, {data.outputs} outputs",
        f"{config.optimizer}, learning rate {config.lr:g}, batches of {config.batch_size}, "
        f"{config.epochs} epochs, {config.seeds} seeds; all settings share split, initial "
        "weights and batches",
        *penalties,
        *data.notes,
        "density, dead units and zero gradients are measured on the test part; the choice is "
        "made on the validation part",
    )


def _conclusion(rows: Sequence[SettingRow], score_name: str, tolerance: float) -> str:
    picked = next((row for row in rows if row.picked), None)
    if picked is None or picked.density is None or picked.score is None:
        return "No setting finished all its trainings."
    return (
        f"{picked.label} is the sparsest setting within {tolerance:g} of the best validation "
        f"{score_name}: {picked.density.mean:.1%} of its activations are non-zero, test "
        f"{score_name} {picked.score.mean:.3f}."
    )


def _missed_targets(
    target: float | None, settings: Sequence[Setting], grouped: dict[str, list[TrialRecord]]
) -> str:
    """A sentence about the searches that missed: density need not fall steadily with λ."""
    if target is None:
        return ""
    reached = {
        setting.label: grouped[setting.label][0].validation_density
        for setting in settings
        if setting.label in grouped and ACTIVATIONS[setting.activation].knob is not None
    }
    missed = [
        f"{label} ({density:.1%})"
        for label, density in reached.items()
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


def _density_traces(grouped: dict[str, list[TrialRecord]]) -> tuple[DensityTrace, ...]:
    return tuple(
        DensityTrace(
            label,
            f"layer {layer + 1}",
            _mean([[epoch[layer] for epoch in record.densities] for record in group]),
        )
        for label, group in grouped.items()
        for layer in range(len(group[0].layers))
    )


def _histogram_traces(grouped: dict[str, list[TrialRecord]]) -> tuple[HistogramTrace, ...]:
    traces = []
    for label, group in grouped.items():
        for number, layer in enumerate(group[0].layers, 1):
            total = sum(layer.counts)
            if total:
                edges = Histogram(layer.limit, layer.counts).edges
                centres = _mean([edges[:-1], edges[1:]])
                share = tuple(count / total for count in layer.counts)
                traces.append(HistogramTrace(label, f"layer {number}", centres, share))
    return tuple(traces)
