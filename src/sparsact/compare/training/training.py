"""Train a network with one activation from one seed."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.compare.problems.batches import Batch, BatchSource
from sparsact.compare.problems.problem import Problem
from sparsact.compare.problems.user_code import enough_memory
from sparsact.compare.results.multiply_adds import count_multiply_adds
from sparsact.compare.settings.training_plan import Plan, Setting
from sparsact.compare.training.tally import Diverged, Tally
from sparsact.hooks import CallSelector, CallSite
from sparsact.meters import LayerStats, SparsityMeter
from sparsact.nn import ThresholdModule
from sparsact.penalties import ActivationPenalty, Penalty, WeightPenalty


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
    name: str = ""


@dataclass(frozen=True)
class TrialRecord:
    """The result of one training. Scores and layers are empty or None if it diverged.

    Attributes:
        setting: label of the setting.
        seed: of the initial weights and of the order of the batches.
        status: ``"finished"`` or ``"diverged"``.
        validation_scores: one per epoch.
        densities: per epoch, the density of each layer on the validation part.
        test_score: at the end.
        layers: one per place whose activation is compared.
        skipped_steps: steps without an update because the gradient was not finite.
        multiply_adds: per sample of the test part, in linear layers and convolutions.
        needed_multiply_adds: those whose input is not zero.
        lambdas: per epoch, the mean |λ| of each layer; empty if λ is not trained.
    """

    setting: str
    seed: int
    status: str
    validation_scores: tuple[float, ...]
    densities: tuple[tuple[float, ...], ...]
    test_score: float | None
    layers: tuple[LayerRecord, ...]
    skipped_steps: int
    multiply_adds: float | None = None
    needed_multiply_adds: float | None = None
    lambdas: tuple[tuple[float, ...], ...] = ()

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


class Training:
    """A network, its optimizer and its penalties; one step at a time."""

    def __init__(self, setting: Setting, seed: int, plan: Plan, problem: Problem) -> None:
        self.plan, self.problem = plan, problem
        model, self.places = problem.network(setting.kind, setting.level, seed)
        self.model = model.to(problem.device).train()
        self.optimizer = problem.optimizer(self.model, setting.lr or plan.lr)
        self.penalties: list[Callable[[], Tensor]] = []
        self.skipped_steps = 0
        if setting.penalty is not None:
            penalty = setting.penalty.build()
            spec: dict[CallSelector, Penalty] = dict.fromkeys(self.places.values(), penalty)
            self.penalties.append(ActivationPenalty(self.model, spec))
        if plan.weight_penalty is not None:
            weights = dict.fromkeys(_weight_names(self.model), plan.weight_penalty.build())
            self.penalties.append(WeightPenalty(self.model, weights))

    def step(self, batch: Batch) -> None:
        """One step of the optimizer.

        Raises:
            Diverged: the loss is not finite.
        """
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.problem.learning.loss(self.model, batch)
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

    def run_epoch(self, order: torch.Generator) -> None:
        """Train on each batch of the training part once; the order depends on the generator."""
        for batch in self.problem.train.shuffled(order):
            self.step(batch)


def train(
    setting: Setting, seed: int, plan: Plan, problem: Problem, on_epoch: Callable[[], None]
) -> tuple[TrialRecord, nn.Module]:
    """Train once.

    Args:
        setting: what to train.
        seed: of the initial weights, the order of the batches, and all other randomness.
        plan: how to train.
        problem: what is learned.
        on_epoch: called after each epoch, for a progress bar.

    Returns:
        the record, and the trained network.

    Raises:
        InputError: there is not enough memory.
    """
    with torch.random.fork_rng(), enough_memory():
        torch.manual_seed(seed)
        training = Training(setting, seed, plan, problem)
        return _train(training, setting.label, seed, on_epoch), training.model


def _train(training: Training, label: str, seed: int, on_epoch: Callable[[], None]) -> TrialRecord:
    problem, epochs = training.problem, training.plan.config.epochs
    order = torch.Generator().manual_seed(seed)
    scores: list[float] = []
    densities: list[tuple[float, ...]] = []
    lambdas: list[tuple[float, ...]] = []
    test_score: float | None
    layers: tuple[LayerRecord, ...]
    status, test_score, layers = "finished", None, ()
    dense = needed = None
    try:
        for _ in range(epochs):
            training.run_epoch(order)
            score, stats = _evaluate(training, problem.validation)
            scores.append(score)
            densities.append(tuple(layer.density for layer in stats))
            lambdas.append(_lambdas(training))
            on_epoch()
        test_score, layers = _examine(training, problem.test)
        dense, needed = _multiply_adds(training, problem.test)
    except Diverged:
        status = "diverged"
        for _ in range(len(scores), epochs):
            on_epoch()
    return TrialRecord(
        setting=label,
        seed=seed,
        status=status,
        validation_scores=tuple(scores),
        densities=tuple(densities),
        test_score=test_score,
        layers=layers,
        skipped_steps=training.skipped_steps,
        multiply_adds=dense,
        needed_multiply_adds=needed,
        lambdas=tuple(lambdas) if all(lambdas) else (),
    )


def _lambdas(training: Training) -> tuple[float, ...]:
    """The mean |λ| of each place; empty if some place has no trained λ."""
    modules = (training.model.get_submodule(site.base) for site in training.places.values())
    values = [_trained_lambda(module) for module in modules]
    return tuple(value for value in values if value is not None) if None not in values else ()


def _trained_lambda(module: nn.Module) -> float | None:
    if isinstance(module, ThresholdModule) and isinstance(module.lambd, Tensor):
        return float(module.lambd.detach().abs().mean())
    return None


def _weight_names(model: nn.Module) -> list[str]:
    """The names of the matrices and kernels that multiply inputs."""
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    return [f"{name}.weight" for name, m in model.named_modules() if isinstance(m, kinds)]


def _evaluate(training: Training, source: BatchSource) -> tuple[float, list[LayerStats]]:
    """Score and activations on a part, without gradients."""
    model, problem = training.model.eval(), training.problem
    tally = Tally(problem.score)
    needs_loss = problem.score.measure is None
    with torch.no_grad(), SparsityMeter(model, list(training.places.values())) as meter:
        for batch in source.in_order():
            if needs_loss:
                tally.add(batch, *problem.learning.both(model, batch))
            else:
                tally.add(batch, None, problem.learning.predict(model, batch))
        stats = _by_place(meter, training.places)
    model.train()
    return tally.compute(), stats


def _examine(training: Training, source: BatchSource) -> tuple[float, tuple[LayerRecord, ...]]:
    """Score, activations and zero gradients on a part; the weights are not changed."""
    model, problem = training.model.eval(), training.problem
    sites = list(training.places.values())
    tally = Tally(problem.score)
    with SparsityMeter(model, sites, gradients=True) as meter:
        for batch in source.in_order():
            loss, prediction = problem.learning.both(model, batch)
            loss.backward()
            tally.add(batch, loss.detach(), prediction)
        stats = _by_place(meter, training.places)
    model.zero_grad(set_to_none=True)
    layers = tuple(
        _layer_record(place, model.get_submodule(site.base), layer)
        for (place, site), layer in zip(training.places.items(), stats, strict=True)
    )
    return tally.compute(), layers


def _multiply_adds(training: Training, source: BatchSource) -> tuple[float, float]:
    """All multiply-adds per sample, and those needed, on the first batch of a part."""
    model, batch = training.model.eval(), next(source.in_order())
    predict = partial(training.problem.learning.predict, model, batch)
    counts = count_multiply_adds(model, predict)
    return counts.dense / batch.samples, counts.needed / batch.samples


def _by_place(meter: SparsityMeter, places: dict[str, CallSite]) -> list[LayerStats]:
    stats = meter.compute()
    missing = [place for place, site in places.items() if site.name not in stats]
    if missing:
        raise InputError(
            f"the activation {missing[0]!r} did not run on a part of the data; leave it out by "
            "select="
        )
    return [stats[site.name] for site in places.values()]


def _layer_record(place: str, module: nn.Module, stats: LayerStats) -> LayerRecord:
    return LayerRecord(
        units=stats.units,
        density=stats.density,
        l0=stats.l0,
        dead=stats.dead,
        mean_magnitude=stats.mean_magnitude,
        zero_gradient=0.0 if stats.zero_gradient is None else stats.zero_gradient,
        lambd=_trained_lambda(module),
        limit=stats.histogram.limit,
        counts=stats.histogram.counts,
        name=place,
    )
