"""The curves and the held-out figures of a training."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from sparsact.report.autoencoder.autoencoder_records import Bars, Panel, Trace
from sparsact.sae.evaluation.reconstruction_metrics import density_histogram

POINTS = 400
"""Largest number of points in a curve. Each point is a mean over several steps if needed."""

CURVES = (
    ("Variance unexplained (FVU)", "fvu", False),
    ("L0: active latents per input", "l0", False),
    ("Dead latents", "dead", False),
    ("Coefficient of the penalty", "coefficient", False),
    ("Norm of the gradient", "gradient_norm", True),
    ("Learning rate", "lr", False),
    ("Steps skipped so far", "skipped", False),
)
"""Title, field of the log, and whether the axis is logarithmic."""

NAMES = {
    "inputs": "activations measured",
    "l0": "L0: active latents per activation",
    "fvu": "FVU: unexplained share of the variance",
    "explained_variance": "explained variance, around the mean",
    "mse": "mean squared error per entry",
    "cosine": "cosine between reconstruction and activation",
    "silent": "share of the latents that never fired on them",
    "dead": "share of the latents that are dead, as training counts them",
    "train_fvu": "FVU on as many activations of the training",
    "passes": "times that each activation was used",
}

Line = dict[str, Any]


def make_panels(log: Sequence[Line], training: dict[str, Any]) -> tuple[Panel, ...]:
    """The curves of a training, without those that are always zero.

    Args:
        log: a line per step, with the fields of `SAEStats`.
        training: the fields of `SAETrainConfig`.
    """
    if not log:
        return ()
    steps = _thin_field(log, "step")
    panels = [_loss(log, steps, training["aux_coefficient"])]
    for title, name, logarithmic in CURVES:
        values = _thin_field(log, name)
        if any(values) and not (name == "coefficient" and not any(_thin_field(log, "penalty"))):
            target = training["target_l0"] if name == "l0" else None
            panels.append(Panel(title, steps, (Trace(name, values),), logarithmic, target))
    return tuple(panels)


def _loss(log: Sequence[Line], steps: tuple[float, ...], aux_coefficient: float) -> Panel:
    """The loss, and its parts other than the reconstruction error."""
    parts = {
        "loss": _thin_field(log, "loss"),
        "coefficient × penalty": thin([line["coefficient"] * line["penalty"] for line in log]),
        "coefficient × auxiliary": thin([aux_coefficient * line["aux"] for line in log]),
    }
    traces = tuple(Trace(name, values) for name, values in parts.items() if any(values))
    return Panel("Loss", steps, traces, logarithmic=True)


def _thin_field(log: Sequence[Line], name: str) -> tuple[float, ...]:
    return thin([line[name] for line in log])


def steps_per_point(steps: int) -> int:
    """The number of steps that are averaged in each point of a curve."""
    return max(1, -(-steps // POINTS))


def thin(values: Sequence[float]) -> tuple[float, ...]:
    """Means over equal intervals, of their finite values. NaN if there are none.

    Example:
        >>> thin([1.0, float("nan"), 3.0])
        (1.0, nan, 3.0)
    """
    stride = steps_per_point(len(values))
    return tuple(_mean(values[i : i + stride]) for i in range(0, len(values), stride))


def _mean(values: Iterable[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def make_conclusion(metrics: dict[str, Any]) -> str:
    """The most important held-out figures, in a sentence, and what is wrong with them."""
    if not metrics:
        return (
            "There are no held-out figures for this autoencoder; `sparsact sae eval` measures them."
        )
    notes = "".join(f" Note: {note}." for note in metrics.get("notes", ()))
    return (
        f"On {metrics['inputs']} held-out activations {metrics['l0']:.1f} latents are active at a "
        f"time, {metrics['fvu']:.1%} of the variance is not explained, and "
        f"{metrics.get('silent', metrics['dead']):.1%} of the latents never fire.{notes}"
    )


def make_figures(metrics: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """Name and value of every held-out figure that is a number."""
    return tuple(
        (NAMES.get(name, name.replace("_", " ")), _shown(value))
        for name, value in metrics.items()
        if isinstance(value, (int, float))
    )


def _shown(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def make_densities(density: Tensor) -> Bars | None:
    """The histogram of log₁₀ density for latents that fired; None if none did."""
    if not bool((density > 0).any()):
        return None
    counts, edges = density_histogram(density)
    return Bars(tuple(edges.tolist()), tuple(int(count) for count in counts.tolist()))
