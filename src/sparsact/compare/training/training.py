"""Train a network with one activation from one seed."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from sparsact.compare.problems.batches import Batch
from sparsact.compare.problems.problem import Problem
from sparsact.compare.problems.user_code import enough_memory
from sparsact.compare.settings.training_plan import Plan, Setting
from sparsact.compare.training.measuring import (
    evaluate,
    examine,
    multiply_adds,
    trained_lambdas,
)
from sparsact.compare.training.tally import Diverged
from sparsact.compare.training.trial_record import LayerRecord, TrialRecord
from sparsact.hooks import CallSelector
from sparsact.penalties import ActivationPenalty, Penalty, WeightPenalty

__all__ = ["LayerRecord", "Training", "TrialRecord", "finish", "train", "weights_of"]


class Training:
    """A network, its optimizer and its penalties; one step at a time.

    Args:
        setting: what to train.
        seed: of the initial weights.
        plan: how to train.
        problem: what is learned.
        start: weights to start from, instead of those of the seed.
    """

    def __init__(
        self,
        setting: Setting,
        seed: int,
        plan: Plan,
        problem: Problem,
        start: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.seed, self.plan, self.problem = seed, plan, problem
        model, self.places = problem.network(setting.kind, setting.level, seed)
        if start is not None:
            model.load_state_dict(start)
        self.model = model.to(problem.device).train()
        self.updates = problem.updates(self.model, setting.lr or plan.lr)
        self.penalties: list[Callable[[], Tensor]] = []
        self.skipped_steps = 0
        if setting.penalty is not None:
            penalty = setting.penalty.build()
            spec: dict[CallSelector, Penalty] = dict.fromkeys(self.places.values(), penalty)
            self.penalties.append(ActivationPenalty(self.model, spec))
        if plan.weight_penalty is not None:
            weights = dict.fromkeys(_weight_names(self.model), plan.weight_penalty.build())
            self.penalties.append(WeightPenalty(self.model, weights))

    def continued(self, setting: Setting) -> "Training":
        """The same training with another λ, k or penalty: its weights and updates go on."""
        other = Training(setting, self.seed, self.plan, self.problem, self.model.state_dict())
        other.updates.go_on_from(self.updates)
        return other

    def step(self, batch: Batch) -> None:
        """One step of the optimizer.

        Raises:
            Diverged: the loss is not finite.
        """
        self.updates.optimizer.zero_grad(set_to_none=True)
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
            self.updates.step()
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
        order = torch.Generator().manual_seed(seed)
        return finish(training, setting.label, plan.config.epochs, order, on_epoch), training.model


def finish(
    training: Training,
    label: str,
    epochs: int,
    order: torch.Generator,
    on_epoch: Callable[[], None],
) -> TrialRecord:
    """Train for so many epochs and measure; the record has the label."""
    problem, model, places = training.problem, training.model, training.places
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
            score, stats = evaluate(problem, model, places, problem.validation)
            training.updates.end_epoch(score, problem.score.highest)
            scores.append(score)
            densities.append(tuple(layer.density for layer in stats))
            lambdas.append(trained_lambdas(model, places))
            on_epoch()
        test_score, layers = examine(problem, model, places, problem.test)
        dense, needed = multiply_adds(problem, model, problem.test)
    except Diverged:
        status = "diverged"
        for _ in range(len(scores), epochs):
            on_epoch()
    return TrialRecord(
        setting=label,
        seed=training.seed,
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


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the state of a model on the CPU; tensors that are shared are copied apart."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def _weight_names(model: nn.Module) -> list[str]:
    """The names of the matrices and kernels that multiply inputs."""
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    return [f"{name}.weight" for name, m in model.named_modules() if isinstance(m, kinds)]
