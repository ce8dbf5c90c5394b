"""Scores of a language model on the tasks of lm-evaluation-harness."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from sparsact._common.errors import InputError
from sparsact._common.extras import require

_SPREAD = "_stderr"

Scores = dict[tuple[str, str], tuple[float, float | None]]
"""By task and metric: the value, and its standard error where there is one."""


def task_scores(
    model: nn.Module, tokenizer: Any, tasks: Sequence[str], limit: int | None
) -> Scores:
    """The scores of a model.

    Args:
        model: a causal language model of transformers, dense or sparse.
        tokenizer: its tokenizer.
        tasks: their names.
        limit: examples of each task; None for all.

    Raises:
        InputError: there is no such task, or its data cannot be read.
        ImportError: lm-eval is not installed (extra ``eval``).
    """
    harness = require("lm_eval", "eval")
    wrapper = require("lm_eval.models.huggingface", "eval").HFLM
    try:
        results = harness.simple_evaluate(
            model=wrapper(pretrained=model, tokenizer=tokenizer, batch_size=1),
            tasks=list(tasks),
            limit=limit,
        )["results"]
    except (KeyError, ValueError, OSError) as error:
        raise InputError(f"tasks= cannot be run ({type(error).__name__}: {error})") from error
    return {
        (task, name): (value, _spread(metrics, metric))
        for task, metrics in results.items()
        for metric, value in metrics.items()
        if isinstance(value, float) and _SPREAD not in metric
        for name in [metric.partition(",")[0]]
    }


def task_lines(dense: Scores, sparse: Scores) -> list[str]:
    """A line for each task and metric, with both models, for people to read."""
    return [
        f"task {task}, {metric}: {_shown(*dense[task, metric])} dense, {_shown(*value)} sparse"
        for (task, metric), value in sparse.items()
    ]


def _spread(metrics: Mapping[str, Any], metric: str) -> float | None:
    name, comma, kind = metric.partition(",")
    spread = metrics.get(f"{name}{_SPREAD}{comma}{kind}")
    return spread if isinstance(spread, float) else None  # the harness writes "N/A" for none


def _shown(value: float, spread: float | None) -> str:
    return f"{value:.4f}" if spread is None else f"{value:.4f} ± {spread:.4f}"
