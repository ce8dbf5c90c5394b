"""Read data, and an MLP on them, as a problem."""

from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from sparsact.compare.baselines import class_baseline, value_baseline
from sparsact.compare.batches import TensorSource
from sparsact.compare.compare_config import CompareConfig
from sparsact.compare.exchange import new_network
from sparsact.compare.learning import LossOfOutput
from sparsact.compare.problem import Problem
from sparsact.compare.scores import (
    OF_CLASSES,
    OF_VALUES,
    Score,
    default_class_score,
    named_score,
)
from sparsact.compare.split_dataset import SplitData, Task
from sparsact.compare.training_plan import Plan, Setting
from sparsact.report.comparison.comparison_records import Baseline

TASKS = {"classify": "classification", "regress": "regression", "reconstruct": "reconstruction"}
PLACES = ("act*",)


def table_problem(plan: Plan, data: SplitData) -> Problem:
    """An MLP on data that were read and split.

    Args:
        plan: how to train.
        data: on the plan's device.
    """
    inputs, score = data.train.x.shape[1], _score(plan.config, data)
    return Problem(
        name=data.name,
        title=f"Activations on {data.name}: {TASKS[data.task]}",
        facts=_facts(plan, data),
        notes=data.notes,
        build=lambda: mlp(inputs, plan.hidden, data.outputs),
        select=PLACES,
        example=data.train.x[:2],
        train=TensorSource(data.train.x, data.train.y, plan.config.batch_size),
        validation=TensorSource(data.validation.x, data.validation.y),
        test=TensorSource(data.test.x, data.test.y),
        learning=LossOfOutput(make_criterion(data.task, plan.config.loss)),
        score=score,
        optimizer=lambda model, lr: make_optimizer(model, plan.config.optimizer, lr),
        baseline=_baseline(score, data),
        device=plan.device,
        fingerprint=data.fingerprint,
    )


def mlp(inputs: int, hidden: tuple[int, ...], outputs: int) -> nn.Module:
    """An MLP with ReLU between its linear layers."""
    linears = [nn.Linear(a, b) for a, b in pairwise([inputs, *hidden, outputs])]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, linear in enumerate(linears[:-1], 1):
        layers[f"linear{i}"] = linear
        layers[f"act{i}"] = nn.ReLU()
    layers["head"] = linears[-1]
    return nn.Sequential(layers)


def build_network(
    setting: Setting, inputs: int, hidden: tuple[int, ...], outputs: int, seed: int
) -> nn.Module:
    """An MLP with the activation of a setting; its linear layers depend on the seed alone."""
    model, _ = new_network(
        lambda: mlp(inputs, hidden, outputs),
        PLACES,
        setting.kind,
        setting.level,
        seed,
        torch.zeros(1, inputs),
    )
    return model


def make_criterion(task: Task, loss: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of a task, averaged over the batch."""
    if task == "classify":
        return nn.functional.cross_entropy
    return nn.functional.smooth_l1_loss if loss == "smooth_l1" else nn.functional.mse_loss


def make_optimizer(model: nn.Module, name: str, lr: float) -> torch.optim.Optimizer:
    """The optimizer of a name: adam, adamw or sgd."""
    parameters = model.parameters()
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=0.9)
    cls = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
    return cls(parameters, lr=lr)


def _score(config: CompareConfig, data: SplitData) -> Score:
    allowed = OF_CLASSES if data.task == "classify" else OF_VALUES
    if config.score != "auto":
        return named_score(config.score, allowed)
    return named_score(
        default_class_score(data.train.y) if data.task == "classify" else "r2", allowed
    )


def _baseline(score: Score, data: SplitData) -> Baseline | None:
    targets = data.train.y, data.validation.y, data.test.y
    if data.task == "classify":
        return class_baseline(score, *targets, data.outputs)
    return value_baseline(score, *targets)


def _facts(plan: Plan, data: SplitData) -> tuple[str, ...]:
    config = plan.config
    parts = (data.train, data.validation, data.test)
    rate = (
        "a learning rate for each setting" if config.lr == "auto" else f"learning rate {plan.lr:g}"
    )
    return (
        f"{' / '.join(str(len(part.x)) for part in parts)} samples to train, validate and test; "
        f"{data.train.x.shape[1]} inputs, hidden layers {config.hidden}, {data.outputs} outputs",
        f"{config.optimizer}, {rate}, batches of {config.batch_size}, "
        f"{config.epochs} epochs, {config.seeds} seeds; all settings share split, initial "
        "weights and batches",
    )
