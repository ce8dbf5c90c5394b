"""Putting one activation into the places of a network that are compared."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.compare.problems.batches import on_device
from sparsact.compare.settings.compared_activations import Activation, Width
from sparsact.hooks import (
    CallSelector,
    CallSite,
    CallTaps,
    activations,
    call_patterns,
    first_tensor,
    swap,
)

_FUNCTIONS = ("glu", "sigmoid", "hardsigmoid", "logsigmoid")
KEPT = (*_FUNCTIONS, "GLU", "Sigmoid", "Hardsigmoid", "LogSigmoid")
"""Gates and probabilities: what they compute is not a choice of the activation."""


def new_network(
    build: Callable[[], nn.Module],
    select: Sequence[CallSelector],
    activation: Activation,
    level: float | None,
    seed: int,
    example: Any,
) -> tuple[nn.Module, dict[str, CallSite]]:
    """Build a network from a seed, and put an activation into the selected places.

    The weights depend on the seed and not on the activation.

    Returns:
        the network, and place → call site in it.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build()
        first = next(model.parameters(), None)
        if first is not None:
            example = on_device(example, first.device)
        return model, exchange(model, select, activation, level, example)


def exchange(
    model: nn.Module,
    select: Sequence[CallSelector],
    activation: Activation,
    level: float | None,
    example: Any,
) -> dict[str, CallSite]:
    """Put an activation into the selected places of `model`; return place → call site."""
    places: dict[str, CallSite] = {}

    def factory(old: object, site: CallSite) -> nn.Module:
        places[site.name] = site
        return activation.build(level, Width(site.channels, site.channel_dim))

    new = swap(model, list(select), factory, example_input=example)
    names = {module: name for name, module in model.named_modules()}
    return {
        place: replace(site, base=names[new[place]], number=1) for place, site in places.items()
    }


def places_to_exchange(model: nn.Module, example: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Choose the places whose activation is compared.

    Returns:
        their names, and one remark for each kind of place that is left alone: gates, whose values
        are shares; and the activation that makes the output of the network.
    """
    sites = activations(model, example)
    remarks = list(sites.remarks)
    gates = [site for site in sites if site.activation in KEPT]
    others = [site for site in sites if site not in gates]
    last = _makes_the_output(model, others, example)
    if gates:
        remarks.append(f"gates are left alone: {_listed(gates)}")
    if last:
        remarks.append(f"the activation of the output is left alone: {_listed(last)}")
    chosen = tuple(f"{site.base}#{site.number}" for site in others if site not in last)
    if not chosen:
        reasons = "".join(f"; {remark}" for remark in remarks)
        raise InputError(f"build= makes a model without an activation to compare{reasons}")
    return chosen, tuple(remarks)


def _makes_the_output(model: nn.Module, sites: Sequence[CallSite], example: Any) -> list[CallSite]:
    """The sites whose tensor is the output of the model itself, and that do nothing else."""
    if not sites:
        return []
    seen: dict[str, Tensor] = {}

    def see(name: str, index: int, activation: Tensor) -> None:
        seen[name] = activation

    taps = CallTaps(model, call_patterns(model, list(sites)), see, "output")
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            output = first_tensor(call_model(model, example))
    finally:
        taps.remove()
        model.train(was_training)
    return [site for site in sites if seen.get(site.name) is output and site.calls == 1]


def call_model(model: nn.Module, inputs: Any) -> Any:
    """Call a model with a tensor, a tuple of positional inputs, or a dict of keyword inputs."""
    if isinstance(inputs, dict):
        return model(**inputs)
    if isinstance(inputs, tuple):
        return model(*inputs)
    return model(inputs)


def _listed(sites: Sequence[CallSite]) -> str:
    names = [site.name for site in sites]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
