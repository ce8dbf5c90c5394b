"""Curves of each activation and of its gradient."""

from collections.abc import Sequence

import torch

from sparsact.compare.compared_activations import ACTIVATIONS
from sparsact.compare.training_plan import Setting
from sparsact.report.comparison.comparison_records import Curve


def trace_curves(settings: Sequence[Setting]) -> tuple[Curve, ...]:
    """One curve per fixed activation, at its first setting; top-k has no curve."""
    first: dict[str, Setting] = {}
    for setting in settings:
        activation = ACTIVATIONS[setting.activation]
        if not activation.learned and activation.takes != "k":
            first.setdefault(setting.activation, setting)
    return tuple(_trace(setting) for setting in first.values())


def _trace(setting: Setting) -> Curve:
    x = torch.linspace(-2, 2, 401, requires_grad=True)
    y = ACTIVATIONS[setting.activation].build(setting.level, 1)(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    label = Setting(setting.activation, setting.level).label
    return Curve(label, *(tuple(t.tolist()) for t in (x.detach(), y.detach(), slope)))
