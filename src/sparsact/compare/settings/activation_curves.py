"""Curves of each activation and of its gradient."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from sparsact.compare.settings.compared_activations import Width
from sparsact.compare.settings.training_plan import Setting
from sparsact.report.comparison.comparison_records import Curve


def trace_curves(settings: Sequence[Setting]) -> tuple[Curve, ...]:
    """One curve per fixed entrywise activation, at its first setting."""
    first: dict[str, Setting] = {}
    for setting in settings:
        if setting.kind.entrywise and not setting.kind.learned:
            first.setdefault(setting.activation, setting)
    return tuple(_trace(setting) for setting in first.values())


def _trace(setting: Setting) -> Curve:
    x = torch.linspace(-2, 2, 401, requires_grad=True)
    y = setting.kind.build(setting.level, Width(1))(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    label = replace(setting, penalty=None, lr=None).label
    return Curve(label, *(tuple(t.tolist()) for t in (x.detach(), y.detach(), slope)))
