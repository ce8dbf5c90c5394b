"""The table of a comparison as numbers."""

from typing import Any

from sparsact._common.extras import require
from sparsact.report.comparison.comparison_records import ComparisonReport, SettingRow, Spread


def result_table(report: ComparisonReport) -> Any:
    """A row for each setting, and one for the constant prediction: a ``pandas.DataFrame``."""
    rows = {row.label: _numbers(row) for row in report.rows}
    if report.baseline is not None:
        baseline = report.baseline
        rows[baseline.label] = {
            "score": baseline.score,
            "validation_score": baseline.validation_score,
        }
    frame = require("pandas", "compare").DataFrame.from_dict(rows, orient="index")
    frame.index.name = "setting"
    return frame


def _numbers(row: SettingRow) -> dict[str, Any]:
    return {
        "activation": row.activation,
        "score": _mean(row.score),
        "score_error": row.score_error,
        "p": row.p_value,
        "validation_score": row.validation_score,
        "density": _mean(row.density),
        "dead": _mean(row.dead),
        "zero_gradient": _mean(row.zero_gradient),
        "epochs_to_reference": _mean(row.epochs_to_reference),
        "step_ratio": row.step_ratio,
        "learned_lambda": _mean(row.learned_lambda),
        "multiply_adds": row.multiply_adds,
        "needed_multiply_adds": row.needed_multiply_adds,
        "batch_ms": row.batch_ms,
        "sample_ms": row.sample_ms,
        "sparse_sample_ms": row.sparse_sample_ms,
        "annealed": row.annealed,
        "value": row.value,
        "trainings": row.trainings,
        "diverged": row.diverged,
        "on_front": row.on_front,
        "picked": row.picked,
    }


def _mean(value: Spread | None) -> float | None:
    return None if value is None else value.mean
