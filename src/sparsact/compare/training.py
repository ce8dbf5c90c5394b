"""Train a network with one activation from one seed."""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from sparsact.compare.compared_activations import ACTIVATIONS
from sparsact.compare.data import Part, SplitData, Task
from sparsact.compare.training_plan import Plan, Setting
from sparsact.meters import LayerStats, SparsityMeter
from sparsact.nn import ThresholdModule
from sparsact.penalties import ActivationPenalty, WeightPenalty

ACTS = "act*"


@dataclass(frozen=True)
class LayerRecord:
    """The activations of one layer on the test part, at the end of training."""

    units: int
    density: float
    l0: float
    dead: float
    mean_magnitude: float
    zero_gradient: float
    lambd: float | None
    limit: float
    counts: tuple[int, ...]


@dataclass(frozen=True)
class TrialRecord:
    """The result of one training. Scores and layers are empty or None if it diverged.

    Attributes:
        setting: label of the setting.
        seed: of the initial weights and of the order of the batches.
        status: ``"finished"`` or ``"diverged"``.
        validation_scores: one per epoch.
        densities: per epoch, the density of each layer on the validation part.
        test_score: accuracy, or R² for regress and reconstruct, at the end.
        layers: one per hidden layer.
        skipped_steps: steps without an update because the gradient was not finite.
    """

    setting: str
    seed: int
    status: str
    validation_scores: tuple[float, ...]
    densities: tuple[tuple[float, ...], ...]
    test_score: float | None
    layers: tuple[LayerRecord, ...]
    skipped_steps: int

    @property
    def validation_score(self) -> float:
        """The score at the last epoch."""
        return self.validation_scores[-1]

    @property
    def validation_density(self) -> float:
        """The density over all layers, at the last epoch."""
        return self.over_layers(self.densities[-1])

    def over_layers(self, values: tuple[float, ...]) -> float:
        """Mean of a value per layer, weighted by the units."""
        units = [layer.units for layer in self.layers]
        return sum(v * n for v, n in zip(values, units, strict=True)) / sum(units)


class Diverged(Exception):
    """The loss or a weight is no longer finite."""


def build_network(
    setting: Setting, inputs: int, hidden: tuple[int, ...], outputs: int, seed: int
) -> nn.Module:
    """An MLP; its linear layers depend on the seed, not on the activation."""
    widths = [inputs, *hidden, outputs]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        linears = [nn.Linear(a, b) for a, b in pairwise(widths)]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, linear in enumerate(linears[:-1], 1):
        layers[f"linear{i}"] = linear
        layers[f"act{i}"] = ACTIVATIONS[setting.activation].build(
            setting.level, linear.out_features
        )
    layers["head"] = linears[-1]
    return nn.Sequential(layers)


def make_criterion(task: Task, loss: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of a task, averaged over the batch."""
    if task == "classify":
        return nn.functional.cross_entropy
    return nn.functional.smooth_l1_loss if loss == "smooth_l1" else nn.functional.mse_loss


class Training:
    """A network, its optimizer and its penalties; one step at a time."""

    def __init__(self, setting: Setting, seed: int, plan: Plan, data: SplitData) -> None:
        self.plan, self.data = plan, data
        inputs = data.train.x.shape[1]
        model = build_network(setting, inputs, plan.hidden, data.outputs, seed)
        self.model = model.to(plan.device)
        self.criterion = make_criterion(data.task, plan.config.loss)
        self.optimizer = _make_optimizer(self.model, plan)
        self.penalties: list[Callable[[], Tensor]] = []
        self.skipped_steps = 0
        if setting.penalty is not None:
            self.penalties.append(ActivationPenalty(self.model, {ACTS: setting.penalty.build()}))
        if plan.weight_penalty is not None:
            weights = {"*.weight": plan.weight_penalty.build()}
            linears = nn.ModuleDict(
                {name: m for name, m in self.model.named_children() if isinstance(m, nn.Linear)}
            )
            self.penalties.append(WeightPenalty(linears, weights))

    def step(self, x: Tensor, y: Tensor) -> None:
        """One step of the optimizer.

        Raises:
            Diverged: the loss is not finite.
        """
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.criterion(self.model(x), y)
        for penalty in self.penalties:
            loss = loss + penalty()
        if not math.isfinite(loss.item()):
            raise Diverged
        loss.backward()
        limit = self.plan.config.clip_grad
        norm = nn.utils.clip_grad_norm_(
            self.model.parameters(), math.inf if limit is None else limit
        )
        if math.isfinite(norm.item()):
            self.optimizer.step()
        else:
            self.skipped_steps += 1

    def batches(self, order: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """The training part once, in an order that only depends on the generator."""
        part, size = self.data.train, self.plan.config.batch_size
        for rows in torch.randperm(len(part.x), generator=order).split(size):
            rows = rows.to(part.x.device)
            yield part.x[rows], part.y[rows]


def train(
    setting: Setting, seed: int, plan: Plan, data: SplitData, on_epoch: Callable[[], None]
) -> tuple[TrialRecord, nn.Module]:
    """Train once.

    Args:
        setting: what to train.
        seed: of the initial weights and the order of the batches.
        plan: how to train.
        data: on the plan's device.
        on_epoch: called after each epoch, for a progress bar.

    Returns:
        the record, and the trained network.
    """
    training = Training(setting, seed, plan, data)
    order = torch.Generator().manual_seed(seed)
    scores: list[float] = []
    densities: list[tuple[float, ...]] = []
    test_score: float | None
    layers: tuple[LayerRecord, ...]
    status, test_score, layers = "finished", None, ()
    try:
        for _ in range(plan.config.epochs):
            for x, y in training.batches(order):
                training.step(x, y)
            score, stats = _evaluate(training.model, data.validation, data.task)
            scores.append(score)
            densities.append(tuple(layer.density for layer in stats.values()))
            on_epoch()
        test_score, layers = _examine(training, data.test)
    except Diverged:
        status = "diverged"
        for _ in range(len(scores), plan.config.epochs):
            on_epoch()
    record = TrialRecord(
        setting=setting.label,
        seed=seed,
        status=status,
        validation_scores=tuple(scores),
        densities=tuple(densities),
        test_score=test_score,
        layers=layers,
        skipped_steps=training.skipped_steps,
    )
    return record, training.model


def _make_optimizer(model: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    lr, parameters = plan.config.lr, model.parameters()
    if plan.config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=0.9)
    cls = torch.optim.AdamW if plan.config.optimizer == "adamw" else torch.optim.Adam
    return cls(parameters, lr=lr)


def _evaluate(model: nn.Module, part: Part, task: Task) -> tuple[float, dict[str, LayerStats]]:
    model.eval()
    with torch.no_grad(), SparsityMeter(model, ACTS) as meter:
        score = _score(model(part.x), part.y, task)
        stats = meter.compute()
    model.train()
    return score, stats


def _examine(training: Training, part: Part) -> tuple[float, tuple[LayerRecord, ...]]:
    """Score, activations and zero gradients on `part`; the weights are not changed."""
    model = training.model.eval()
    with SparsityMeter(model, ACTS, gradients=True) as meter:
        prediction = model(part.x)
        training.criterion(prediction, part.y).backward()
        stats = meter.compute()
    model.zero_grad(set_to_none=True)
    layers = tuple(_layer_record(model.get_submodule(name), layer) for name, layer in stats.items())
    return _score(prediction.detach(), part.y, training.data.task), layers


def _layer_record(module: nn.Module, stats: LayerStats) -> LayerRecord:
    assert stats.zero_gradient is not None
    lambd = None
    if isinstance(module, ThresholdModule) and isinstance(module.lambd, Tensor):
        lambd = float(module.lambd.detach().abs().mean())
    return LayerRecord(
        units=stats.units,
        density=stats.density,
        l0=stats.l0,
        dead=stats.dead,
        mean_magnitude=stats.mean_magnitude,
        zero_gradient=stats.zero_gradient,
        lambd=lambd,
        limit=stats.histogram.limit,
        counts=stats.histogram.counts,
    )


def _score(prediction: Tensor, target: Tensor, task: Task) -> float:
    """Accuracy, or R²: 1 minus the squared error over that of the part's own mean."""
    if not prediction.isfinite().all():
        raise Diverged
    if task == "classify":
        return float((prediction.argmax(1) == target).double().mean())
    error = (prediction - target).double().square().sum()
    spread = (target - target.mean(0)).double().square().sum()
    return float(1 - error / spread)
