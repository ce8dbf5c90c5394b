"""Read data, and a built-in network on them, as a problem."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sparsact.compare.compare_config import CompareConfig
from sparsact.compare.data import SplitData, Task
from sparsact.compare.problems.batches import TensorSource
from sparsact.compare.problems.exchange import new_network
from sparsact.compare.problems.networks import PLACES, ImageShape, NetworkName, network_maker
from sparsact.compare.problems.problem import Problem
from sparsact.compare.problems.updates import Updates
from sparsact.compare.results.baselines import class_baseline, value_baseline
from sparsact.compare.results.scores import (
    OF_CLASSES,
    OF_VALUES,
    Score,
    default_class_score,
    named_score,
)
from sparsact.compare.settings.training_plan import Plan, Setting
from sparsact.compare.training.learning import LossOfOutput
from sparsact.report.comparison.comparison_records import Baseline

TASKS = {"classify": "classification", "regress": "regression", "reconstruct": "reconstruction"}


def table_problem(plan: Plan, data: SplitData) -> Problem:
    """A built-in network on data that were read and split.

    Args:
        plan: how to train.
        data: on the plan's device.
    """
    score = _score(plan.config, data)
    make = network_maker(
        network_name(plan.config, data),
        data.train.x.shape[1],
        plan.hidden,
        data.outputs,
        data.image_shape,
    )
    return Problem(
        name=data.name,
        title=f"Activations on {data.name}: {TASKS[data.task]}",
        facts=_facts(plan, data),
        notes=data.notes,
        build=make,
        select=PLACES,
        example=data.train.x[:2],
        train=TensorSource(data.train.x, data.train.y, plan.config.batch_size),
        validation=TensorSource(data.validation.x, data.validation.y),
        test=TensorSource(data.test.x, data.test.y),
        learning=LossOfOutput(make_criterion(data.task, plan.config.loss)),
        score=score,
        updates=lambda model, lr: make_updates(model, plan.config.optimizer, lr),
        baseline=_baseline(score, data),
        device=plan.device,
        fingerprint=data.fingerprint,
    )


def network_name(config: CompareConfig, data: SplitData) -> NetworkName:
    """The built-in network to train: the user's choice, or what suits the data."""
    return data.default_network if config.model == "auto" else config.model


def build_network(
    setting: Setting,
    inputs: int,
    hidden: tuple[int, ...],
    outputs: int,
    seed: int,
    network: NetworkName = "mlp",
    image_shape: ImageShape | None = None,
) -> nn.Module:
    """A built-in network with the activation of a setting; its weights depend on the seed alone."""
    make = network_maker(network, inputs, hidden, outputs, image_shape)
    example = torch.zeros(1, inputs)
    model, _ = new_network(make, PLACES, setting.kind, setting.level, seed, example)
    return model


def make_criterion(task: Task, loss: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of a task, averaged over the batch."""
    if task == "classify":
        return nn.functional.cross_entropy
    return nn.functional.smooth_l1_loss if loss == "smooth_l1" else nn.functional.mse_loss


def make_updates(model: nn.Module, name: str, lr: float) -> Updates:
    """Updates by the optimizer of a name: adam, adamw or sgd."""
    parameters = model.parameters()
    if name == "sgd":
        return Updates(torch.optim.SGD(parameters, lr=lr, momentum=0.9))
    cls = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
    return Updates(cls(parameters, lr=lr))


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
        f"{data.train.x.shape[1]} inputs, {_network_words(config, data)}, {data.outputs} outputs",
        f"{config.optimizer}, {rate}, batches of {config.batch_size}, "
        f"{config.epochs} epochs, {config.seeds} seeds; all settings share split, initial "
        "weights and batches",
    )


def _network_words(config: CompareConfig, data: SplitData) -> str:
    name = network_name(config, data)
    return f"hidden layers {config.hidden}" if name == "mlp" else f"built-in {name}"
