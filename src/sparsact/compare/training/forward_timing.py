"""Measure how long a forward of a trained network takes, dense and with layers that skip zeros."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sparsact.compare.problems.batches import Batch
from sparsact.compare.problems.problem import Problem
from sparsact.inference import SparseLinear

REPEATS = 15
FEWEST_REPEATS = 3
LONGEST_S = 0.5
"""Where the repeats of one forward would take longer, they are fewer."""
FEWEST_WEIGHTS = 2**16
FEWEST_ZEROS = 0.3
"""Smaller layers, and inputs with fewer zeros, are not worth skipping."""
STORED = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


@dataclass(frozen=True)
class ForwardTimes:
    """Median milliseconds of a forward.

    Attributes:
        batch_ms: of a batch of the training, with dense layers.
        sample_ms: of one sample, with dense layers.
        sparse_sample_ms: of one sample, with :class:`sparsact.SparseLinear` where an activation
            leaves enough zeros; None if no layer is large enough.
    """

    batch_ms: float
    sample_ms: float
    sparse_sample_ms: float | None


def is_faster(times: ForwardTimes) -> bool:
    """Whether layers that skip zeros save time."""
    return times.sparse_sample_ms is not None and times.sparse_sample_ms < times.sample_ms


def time_forwards(problem: Problem, model: nn.Module) -> ForwardTimes:
    """Measure a trained network, after a warm-up, without gradients.

    Args:
        problem: has the batches and the device.
        model: a network that is not used otherwise.
    """
    model = model.to(problem.device).eval()
    with torch.random.fork_rng(), torch.no_grad():
        batch = next(problem.train.shuffled(torch.Generator().manual_seed(0)))
        one = first_sample(batch)
        forward = partial(problem.learning.predict, model)
        batch_ms = _median_ms({"dense": partial(forward, batch)}, problem.device)["dense"]
        sides: dict[str, Callable[[], object]] = {"dense": partial(forward, one)}
        layers = _layers_that_skip(model, partial(forward, batch))
        if layers:
            sides["sparse"] = partial(_with_layers, layers, partial(forward, one))
        times = _median_ms(sides, problem.device)
    return ForwardTimes(batch_ms, times["dense"], times.get("sparse"))


def first_sample(batch: Batch) -> Batch:
    """The first sample of a batch, as a batch."""
    return Batch(*(_first(part, batch.samples) for part in (batch.inputs, batch.target, batch.raw)))


def _first(value: Any, samples: int) -> Any:
    """The first row of every tensor that has a row for each sample."""
    if isinstance(value, Tensor):
        return value[:1] if value.ndim and len(value) == samples else value
    if isinstance(value, Mapping):
        return {name: _first(part, samples) for name, part in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(_first(part, samples) for part in value)
    return value


def _layers_that_skip(
    model: nn.Module, forward: Callable[[], object]
) -> list[tuple[nn.Linear, SparseLinear]]:
    """Large linear layers whose inputs have many zeros, each with what can replace it."""
    zeros: dict[nn.Linear, float] = {}

    def see(module: Any, args: tuple[Any, ...]) -> None:
        x = args[0] if args else None
        if isinstance(x, Tensor) and x.numel():
            zeros[module] = 1 - int(torch.count_nonzero(x)) / x.numel()

    large = [m for m in model.modules() if type(m) is nn.Linear and _is_large(m.weight)]
    hooks = [module.register_forward_pre_hook(see) for module in large]
    try:
        forward()
    finally:
        for hook in hooks:
            hook.remove()
    return [
        (linear, SparseLinear(linear, 0.0, dtype=STORED[linear.weight.dtype]))
        for linear, share in zeros.items()
        if share >= FEWEST_ZEROS
    ]


def _is_large(weight: Tensor) -> bool:
    on_cpu = weight.device.type == "cpu"
    return on_cpu and weight.numel() >= FEWEST_WEIGHTS and weight.dtype in STORED


def _with_layers(
    layers: list[tuple[nn.Linear, SparseLinear]], forward: Callable[[], object]
) -> object:
    with _replaced(layers):
        return forward()


@contextmanager
def _replaced(layers: list[tuple[nn.Linear, SparseLinear]]) -> Iterator[None]:
    """Let linear layers compute as others do, for a while."""
    for linear, sparse in layers:
        linear.forward = sparse.forward  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        for linear, _ in layers:
            del linear.forward


def _median_ms(sides: Mapping[str, Callable[[], object]], device: torch.device) -> dict[str, float]:
    """The median of each side; they take turns, so that the load of the machine affects all."""

    def seconds(side: Callable[[], object]) -> float:
        start = time.perf_counter()
        side()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        return time.perf_counter() - start

    for side in sides.values():
        seconds(side)  # warms up
    once = sum(seconds(side) for side in sides.values())
    repeats = max(FEWEST_REPEATS, min(REPEATS, round(LONGEST_S / max(once, 1e-6))))
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            times[name].append(1e3 * seconds(side))
    return {name: statistics.median(values) for name, values in times.items()}
