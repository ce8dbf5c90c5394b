"""Measure a network on a part of the data."""

from functools import partial

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.compare.problems.batches import BatchSource
from sparsact.compare.problems.problem import Problem
from sparsact.compare.results.multiply_adds import count_multiply_adds
from sparsact.compare.training.tally import Tally
from sparsact.compare.training.trial_record import LayerRecord
from sparsact.hooks import CallSite
from sparsact.meters import LayerStats, SparsityMeter
from sparsact.nn import ThresholdModule

Places = dict[str, CallSite]


def evaluate(
    problem: Problem, model: nn.Module, places: Places, source: BatchSource
) -> tuple[float, list[LayerStats]]:
    """Score and activations on a part, without gradients."""
    model.eval()
    tally = Tally(problem.score)
    needs_loss = problem.score.measure is None
    with torch.no_grad(), SparsityMeter(model, list(places.values())) as meter:
        for batch in source.in_order():
            if needs_loss:
                tally.add(batch, *problem.learning.both(model, batch))
            else:
                tally.add(batch, None, problem.learning.predict(model, batch))
        stats = _by_place(meter, places)
    model.train()
    return tally.compute(), stats


def examine(
    problem: Problem, model: nn.Module, places: Places, source: BatchSource
) -> tuple[float, tuple[LayerRecord, ...]]:
    """Score, activations and zero gradients on a part; the weights are not changed."""
    model.eval()
    sites = list(places.values())
    tally = Tally(problem.score)
    with SparsityMeter(model, sites, gradients=True) as meter:
        for batch in source.in_order():
            loss, prediction = problem.learning.both(model, batch)
            loss.backward()
            tally.add(batch, loss.detach(), prediction)
        stats = _by_place(meter, places)
    model.zero_grad(set_to_none=True)
    layers = tuple(
        _layer_record(place, model.get_submodule(site.base), layer)
        for (place, site), layer in zip(places.items(), stats, strict=True)
    )
    return tally.compute(), layers


def multiply_adds(problem: Problem, model: nn.Module, source: BatchSource) -> tuple[float, float]:
    """All multiply-adds per sample, and those needed, on the first batch of a part."""
    batch = next(source.in_order())
    model.eval()
    predict = partial(problem.learning.predict, model, batch)
    counts = count_multiply_adds(model, predict)
    return counts.dense / batch.samples, counts.needed / batch.samples


def trained_lambdas(model: nn.Module, places: Places) -> tuple[float, ...]:
    """The mean |λ| of each place; empty if some place has no trained λ."""
    values = [_trained_lambda(model.get_submodule(site.base)) for site in places.values()]
    return tuple(value for value in values if value is not None) if None not in values else ()


def _trained_lambda(module: nn.Module) -> float | None:
    if isinstance(module, ThresholdModule) and isinstance(module.lambd, Tensor):
        return float(module.lambd.detach().abs().mean())
    return None


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
