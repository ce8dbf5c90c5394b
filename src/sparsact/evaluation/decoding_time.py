"""The time of generating one token."""

import copy
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.calibration.token_positions import counts_tokens
from sparsact.hooks import Taps
from sparsact.inference import SparseLinear

_COMPARED = 3  # tokens
SETTLING = 2  # first tokens of a round, not timed: the caches still hold another model's weights


@dataclass(frozen=True)
class Passage:
    """The tokens that all models decode.

    Attributes:
        prompt: (1, length) int64.
        tokens: (count,) int64, given one after the other, so that every model does the same work
            and their logits can be compared.
    """

    prompt: Tensor
    tokens: Tensor


def greedy_passage(model: nn.Module, prompt: Tensor, count: int) -> Passage:
    """A prompt and the model's greedy continuation."""
    tokens: list[Tensor] = []
    with torch.inference_mode():
        output: Any = model(input_ids=prompt, use_cache=True)
        for _ in range(count):
            tokens.append(output.logits[:, -1].argmax(-1))
            output = model(input_ids=tokens[-1][:, None], use_cache=True, **_cache_of(output))
    return Passage(prompt, torch.cat(tokens).clone())


def check_cache(model: nn.Module, prompt: Tensor) -> None:
    """Raise InputError unless the model decodes with a cache of keys and values."""
    with torch.inference_mode():
        output: Any = model(input_ids=prompt[:, :1], use_cache=True)
    if not _cache_of(output):
        raise InputError(
            f"{type(model).__name__} keeps no past_key_values, which the measurement of the time "
            "per token needs"
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
    """Milliseconds of each token: a forward over the cache, and the argmax of the logits.

    Args:
        model: a causal language model on the CPU.
        passage: the tokens.
        cache: the result of `prefill`; a copy of it is used.
        keep: called with the logits (1, vocabulary) after each token, outside the timing.
    """
    times, cache = [], copy.deepcopy(cache)
    with torch.inference_mode():
        for token in passage.tokens.view(-1, 1, 1):
            start = time.perf_counter()
            output = model(input_ids=token, use_cache=True, **cache)
            logits = output.logits[:, -1]
            logits.argmax(-1).cpu()  # waits for another device
            times.append(1e3 * (time.perf_counter() - start))
            keep(logits)
    return times


def decode_in_turn(
    models: Mapping[str, nn.Module],
    passage: Passage,
    rounds: int,
    step: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """Milliseconds of the tokens of all rounds of each model, after one round of warm-up.

    In a round, all models decode the passage, in an order that changes from round to round, so
    that other load on the machine affects them alike.

    Args:
        models: by label.
        passage: the tokens.
        rounds: how often each model decodes them.
        step: called after each model in each round.
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
    """The largest relative distance of a sparse layer's output from the dense product.

    The product is that of the layer's thresholded input. Every sparse layer is compared, for the
    first tokens, on its own input. Logits would not be a measure: a threshold is a step, so an
    entry that rounding moves across it changes everything after it. SmolLM2-135M at 50% sparsity,
    simulated in float32 and in float64, differs by 8% of the logits' norm, with equal perplexity.
    """
    layers = {
        name: module for name, module in model.named_modules() if isinstance(module, SparseLinear)
    }
    worst = 0.0

    def compare(name: str, x: Tensor, output: Tensor) -> None:
        nonlocal worst
        layer, x = layers[name], x.float()
        expected = torch.where(x.abs() <= layer.threshold, 0.0, x) @ layer.dense_weight_t
        expected = expected if layer.bias is None else expected + layer.bias
        size = expected.norm().clamp(min=torch.finfo(torch.float32).tiny)
        worst = max(worst, float((output.float() - expected).norm() / size))

    with Taps.on_calls(layers, compare):
        decode(model, Passage(passage.prompt, passage.tokens[:_COMPARED]), prefill(model, passage))
    return worst
