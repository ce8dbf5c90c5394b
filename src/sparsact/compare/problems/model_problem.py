"""A user's own network, data, loss and score as a problem, tried before anything is written."""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.compare.problems.exchange import call_model, places_to_exchange
from sparsact.compare.problems.lightning_module import check_lightning
from sparsact.compare.problems.problem import Problem
from sparsact.compare.problems.user_batches import UserSource, readable, splitter
from sparsact.compare.problems.user_code import user_code
from sparsact.compare.problems.user_frames import FrameEncoding, encode_frames, for_features
from sparsact.compare.problems.user_targets import (
    Targets,
    baseline_for,
    is_constant,
    score_for,
    targets_of,
)
from sparsact.compare.problems.user_updates import remarks_on_methods, updates_maker
from sparsact.compare.settings.compared_activations import ACTIVATIONS
from sparsact.compare.settings.training_plan import Plan
from sparsact.compare.training.default_learning import find_learning
from sparsact.compare.training.tally import Diverged, Tally
from sparsact.hooks import CallSelector


@dataclass(frozen=True)
class UserTask:
    """What a user hands in: see :func:`sparsact.compare_activations`."""

    build: Callable[[], nn.Module]
    train: Any
    validation: Any
    test: Any = None
    select: CallSelector | Iterable[CallSelector] | None = None
    loss: Callable[[Any, Any], Tensor] | None = None
    score: str | Callable[[Tensor, Tensor], Any] | None = None
    optimizer: str | Callable[[Iterator[nn.Parameter]], Any] | None = None
    target: str | None = None
    name: str | None = None


def model_problem(plan: Plan, task: UserTask) -> Problem:
    """Check all that a user hands in by one step and one measurement, and make it a problem.

    Raises:
        InputError: something cannot be used; an exception of the user's code is the cause.
    """
    task, encoding = _with_features(task)
    model = _first_model(task.build)
    sources, dropped = _sources(plan, task, model)
    train, validation, test = sources
    with torch.random.fork_rng(), user_code("train="):
        batch = next(iter(train.in_order()))
    with user_code("the model on a batch of train="), torch.random.fork_rng(), torch.no_grad():
        call_model(model.to(plan.device).eval(), batch.inputs)
    with user_code("the model"), torch.random.fork_rng():
        select, remarks = _places(model, task.select, batch.inputs)
        learning, kind = find_learning(model, batch, task.loss)
        if task.loss is None:
            check_lightning(model)
    with torch.random.fork_rng():
        parts = [targets_of(source, kind) for source in sources]
    if kind == "classify" and task.loss is None and is_constant(parts[0].targets):
        raise InputError("train= has one class only")
    score = score_for(task.score, kind, parts[0].targets)
    updates, optimizer, on_optimizer = updates_maker(plan, task.optimizer, model)
    remarks = (*remarks, *on_optimizer, *remarks_on_methods(model, task.loss))
    problem = Problem(
        name=task.name or type(model).__name__,
        title=f"Activations of {task.name or type(model).__name__}",
        facts=(_sizes(plan, parts, has_test=task.test is not None), _settings(plan, optimizer)),
        notes=(*remarks, *_notes(task, dropped), *(encoding.notes() if encoding else ())),
        build=task.build,
        select=select,
        example=batch.inputs,
        train=train,
        validation=validation,
        test=test,
        learning=learning,
        score=score,
        updates=updates,
        baseline=None,
        device=plan.device,
        fingerprint="",
        encoding=encoding,
    )
    places = _try(problem, plan, has_test=task.test is not None)
    return replace(
        problem,
        baseline=baseline_for(problem.score, task.score, kind, parts),
        fingerprint=_fingerprint(parts, places, model),
    )


def _with_features(task: UserTask) -> tuple[UserTask, FrameEncoding | None]:
    """The task with features in place of raw frames, and what made them."""
    parts = {"train=": task.train, "validation=": task.validation, "test=": task.test}
    parts, encoding = encode_frames(parts, task.target)
    if encoding is None:
        return task, None
    build = for_features(task.build, len(encoding.mean))
    train, validation, test = parts.values()
    return replace(task, build=build, train=train, validation=validation, test=test), encoding


def _first_model(build: Any) -> nn.Module:
    """A model that is not used in a training, after checks of `build`."""
    if isinstance(build, nn.Module):
        raise InputError(
            "build= is a model; it must be a function that makes a new one each time, such as "
            "lambda: copy.deepcopy(model)"
        )
    if not callable(build):
        raise InputError(f"build= must be a function that makes a model, got {build!r}")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        with user_code("build="):
            model, other = build(), build()
    if not isinstance(model, nn.Module):
        raise InputError(f"build= must return a module, got {type(model).__name__}")
    shared = set(map(id, model.parameters())) & set(map(id, other.parameters()))
    if shared or model is other:
        raise InputError(
            "build= returns the same parameters each time, so one training would continue "
            "another: make a new model in it, or a copy by copy.deepcopy"
        )
    if [p.shape for p in model.parameters()] != [p.shape for p in other.parameters()]:
        raise InputError("build= makes models of different sizes, which cannot be compared")
    if not any(True for _ in model.parameters()):
        raise InputError("build= makes a model without parameters, so nothing can be trained")
    return model


def _sources(
    plan: Plan, task: UserTask, model: nn.Module
) -> tuple[tuple[UserSource, UserSource, UserSource], tuple[str, ...]]:
    classes: dict[Any, int] = {}
    dropped: tuple[str, ...] = ()
    sources: list[UserSource] = []
    test = task.validation if task.test is None else task.test
    parts = (("train=", task.train), ("validation=", task.validation), ("test=", test))
    for argument, data in parts:
        batches = readable(
            argument,
            data,
            plan.config.batch_size,
            shuffle=argument == "train=",
            target=task.target,
            classes=classes,
        )
        with torch.random.fork_rng(), user_code(argument):
            first = next(iter(batches), None)
        if first is None:
            raise InputError(f"{argument} has no batches")
        split, dropped = splitter(argument, model, first)
        sources.append(UserSource(argument, batches, split, plan.device))
    return (sources[0], sources[1], sources[2]), dropped


def _places(
    model: nn.Module, select: Any, example: Any
) -> tuple[tuple[CallSelector, ...], tuple[str, ...]]:
    if select is None:
        return places_to_exchange(model, example)
    if isinstance(select, Iterable) and not isinstance(select, (str, nn.Module, type)):
        chosen = tuple(select)
        if not chosen:
            raise InputError("select= is empty: name at least one activation")
        return chosen, ()
    return (select,), ()


def _try(problem: Problem, plan: Plan, *, has_test: bool) -> tuple[str, ...]:
    """One backward, and a forward of every batch, with ReLU in all places; return the places."""
    with torch.random.fork_rng():
        with user_code("select="):
            model, places = problem.network(ACTIVATIONS["relu"], None, 0)
        model.to(problem.device).train()
        problem.updates(model, plan.lr)
        batch = next(iter(problem.train.in_order()))
        with user_code("loss="):
            loss = problem.learning.loss(model, batch)
        _check_loss(loss)
        with user_code("the backward of loss="):
            loss.backward()
        _measure(problem, model.eval(), has_test=has_test)
    return tuple(places)


def _check_loss(loss: Any) -> None:
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        shape = f" of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else ""
        raise InputError(f"loss= must return a scalar, got {type(loss).__name__}{shape}")
    if not loss.requires_grad:
        raise InputError("loss= returns a number without a gradient: compute it with torch")
    if loss.is_complex():
        raise InputError("loss= must return a real number, got a complex one")
    if not math.isfinite(loss.item()):
        raise InputError(
            f"loss= is {loss.item():g} before the training: look for NaN or inf in train="
        )


def _measure(problem: Problem, model: nn.Module, *, has_test: bool) -> None:
    """Run the model on all batches, of which a later one may not fit, and compute the score."""
    tally, learning = Tally(problem.score), problem.learning
    try:
        with torch.no_grad():
            for batch in problem.validation.in_order():
                with user_code("the model on validation="):
                    loss, prediction = learning.both(model, batch)
                tally.add(batch, loss, prediction)
            for batch in problem.train.in_order():
                with user_code("the model on train="):
                    learning.predict(model, batch)
            for batch in problem.test.in_order() if has_test else ():
                with user_code("the model on test="):
                    learning.both(model, batch)
        with user_code("score="):
            tally.compute()
    except Diverged:
        raise InputError(
            "score= is not a finite number on validation= before the training"
        ) from None


def _sizes(plan: Plan, parts: list[Targets], *, has_test: bool) -> str:
    sizes = [part.samples for part in parts]
    if has_test:
        return f"{sizes[0]} / {sizes[1]} / {sizes[2]} samples to train, validate and test"
    return f"{sizes[0]} / {sizes[1]} samples to train and validate"


def _settings(plan: Plan, optimizer: str) -> str:
    return (
        f"{optimizer}, {plan.config.epochs} epochs, {plan.config.seeds} seeds; all settings share "
        "initial weights and batches"
    )


def _notes(task: UserTask, dropped: tuple[str, ...]) -> tuple[str, ...]:
    notes = []
    if task.test is None:
        notes.append(
            "no test= was given: the scores are those of validation=, by which the choice is made"
        )
    if dropped:
        notes.append(f"the model does not take these keys of a batch: {', '.join(dropped)}")
    return tuple(notes)


def _fingerprint(parts: list[Targets], places: tuple[str, ...], model: nn.Module) -> str:
    """Changes with the sizes of the data, the sums of the targets, the places and the weights."""
    facts: list[Any] = [places, [tuple(p.shape) for p in model.parameters()]]
    for part in parts:
        total = 0.0 if part.targets is None else float(part.targets.double().sum())
        facts += [part.samples, f"{total:.6g}"]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
