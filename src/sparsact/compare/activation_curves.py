"""The shape of each activation and of its gradient."""

from collections.abc import Sequence

import torch

from sparsact.compare.activations import ACTIVATIONS
from sparsact.compare.config import Setting
from sparsact.report.comparison.records import Curve


def trace_curves(settings: Sequence[Setting]) -> tuple[Curve, ...]:
    """One curve per fixed activation, at its first setting; selection has no curve."""
    first: dict[str, Setting] = {}
    for setting in settings:
        kind = ACTIVATIONS[setting.activation]
        if not kind.learned and kind.takes != "k":
            first.setdefault(setting.activation, setting)
    return tuple(_trace(setting) for setting in first.values())


def _trace(setting: Setting) -> Curve:
    x = torch.linspace(-2, 2, 401, requires_grad=True)
    y = ACTIVATIONS[setting.activation].build(setting.level, 1)(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    label = Setting(setting.activation, setting.level).label
    return Curve(label, *(tuple(t.tolist()) for t in (x.detach(), y.detach(), slope)))
