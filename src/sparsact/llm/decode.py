"""Generating a token at a time, timed."""

import copy
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sparsact.calibration.token_positions import counts_tokens
from sparsact.inference import SparseLinear

_COMPARED = 3  # tokens
SETTLING = 2  # first tokens of a round, not counted: the caches still hold another model's weights


@dataclass(frozen=True)
class Passage:
    """What all models decode.

    Attributes:
        prompt: (1, length) int64.
        tokens: (count,) int64, fed one after the other: every model does the same work, and their
            logits can be compared.
    """

    prompt: Tensor
    tokens: Tensor


def continued(model: nn.Module, prompt: Tensor, count: int) -> Passage:
    """A prompt, and what the model greedily goes on with."""
    found: list[Tensor] = []
    with torch.inference_mode():
        output: Any = model(input_ids=prompt, use_cache=True)
        for _ in range(count):
            found.append(output.logits[:, -1].argmax(-1))
            output = model(input_ids=found[-1][:, None], use_cache=True, **_cache_of(output))
    return Passage(prompt, torch.cat(found).clone())


def check_cache(model: nn.Module, prompt: Tensor) -> None:
    """Raise ValueError unless the model decodes with the cache that most do."""
    with torch.inference_mode():
        output: Any = model(input_ids=prompt[:, :1], use_cache=True)
    if not _cache_of(output):
        raise ValueError(
            f"{type(model).__name__} keeps no past_key_values, with which the time a token is "
            "measured"
        )


def prefill(model: nn.Module, passage: Passage) -> dict[str, Any]:
    """The model's cache after the prompt, by the name of the argument that takes it."""
    with torch.inference_mode():
        return _cache_of(model(input_ids=passage.prompt, use_cache=True))


def _cache_of(output: Any) -> dict[str, Any]:
    """A model's cache of keys and values, as the argument that takes it; empty if it has none."""
    caches = {name: getattr(output, name, None) for name in ("cache", "past_key_values")}
    return next(({name: cache} for name, cache in caches.items() if counts_tokens(cache)), {})


def decode(
    model: nn.Module,
    passage: Passage,
    cache: dict[str, Any],
    keep: Callable[[Tensor], None] = lambda logits: None,
) -> list[float]:
    """Milliseconds of each token: a forward over a cache, and the choice of the best.

    Args:
        model: a causal language model on the CPU.
        passage: the tokens.
        cache: what `prefill` gave; a copy of it is used.
        keep: called with the logits (1, vocabulary) after each token, outside the time.
    """
    times, cache = [], copy.deepcopy(cache)
    with torch.inference_mode():
        for token in passage.tokens.view(-1, 1, 1):
            start = time.perf_counter()
            output = model(input_ids=token, use_cache=True, **cache)
            logits = output.logits[:, -1]
            logits.argmax(-1)
            times.append(1e3 * (time.perf_counter() - start))
            keep(logits)
    return times


def decode_in_turn(
    models: Mapping[str, nn.Module],
    passage: Passage,
    rounds: int,
    step: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """Milliseconds of the tokens of all rounds of each model, after one round of warming up.

    In a round all models decode the passage, in an order that changes from round to round: what
    else the machine does falls on all of them.
    """
    order, shuffle = list(models), random.Random(0).shuffle
    times: dict[str, list[float]] = {name: [] for name in models}
    caches = {}
    for name, model in models.items():
        caches[name] = prefill(model, passage)
        decode(model, passage, caches[name])
        step()
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            times[name] += decode(models[name], passage, caches[name])[SETTLING:]
            step()
    return times


def layers_apart(model: nn.Module, passage: Passage) -> float:
    """How far a sparse layer's output is, at most, from the dense product on thresholded inputs.

    Of every sparse layer and the first tokens, relative to the norm. Each layer is looked at on the
    input that it gets: whole logits are no measure, for a threshold is a step, and an entry that
    rounding moves across it changes everything after it. SmolLM2-135M at 50% sparsity, simulated in
    float32 and in float64, differs by 8% of the logits' norm; its perplexity is the same.
    """
    worst = 0.0

    def compare(layer: SparseLinear, args: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal worst
        x = args[0].float()
        wanted = torch.where(x.abs() <= layer.threshold, 0.0, x) @ layer.weight_t.float()
        wanted = wanted if layer.scale is None else wanted * layer.scale
        wanted = wanted if layer.bias is None else wanted + layer.bias
        size = wanted.norm().clamp(min=torch.finfo(torch.float32).tiny)
        worst = max(worst, float((output.float() - wanted).norm() / size))

    layers = [module for module in model.modules() if isinstance(module, SparseLinear)]
    handles = [layer.register_forward_hook(compare) for layer in layers]
    try:
        decode(model, Passage(passage.prompt, passage.tokens[:_COMPARED]), prefill(model, passage))
    finally:
        for handle in handles:
            handle.remove()
    return worst
