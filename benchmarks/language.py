"""A language model whose linear layers skip inactive inputs, against the best dense one.

`python benchmarks/language.py decode` times a token of SmolLM2 (which `scripts/fetch_models.py`
fetches) at 50% sparsity and at none, and says how much of it the linear layers are; `llama1b` the
same for random weights in the shapes of Llama-3.2-1B; `quality 0.5 140` measures what 50% cost
in perplexity on text that was not calibrated on, then with what is left out compensated, then after
140 steps of tuning.

In the Llama every fourth block has the same dense weights, so that building it is cheap: four
blocks are 0.9 GB in float32 and far more than any cache; sparse layers have weights of their own.
The output head, 128256 × 2048 and tied to the embedding as in the original, is read whole by all.
"""

import copy
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from harness import write
from sparsact.calibration import ThresholdPlan, calibrate, compensate, tune
from sparsact.calibration.measured_sparsity import byte_sparsity
from sparsact.evaluation.decoding_time import (
    Passage,
    decode,
    decode_in_turn,
    greedy_passage,
    layers_apart,
    prefill,
)
from sparsact.evaluation.perplexity import perplexity, perplexity_ratio, window_losses
from sparsact.evaluation.weight_bytes import weight_bytes
from sparsact.inference import SparseLinear, sparsify
from sparsact.report.language.language_records import Estimate
from sparsact.text import load_language_model
from sparsact.text.windows import as_batches, choose, read_rows

MODELS = Path(os.environ.get("SPARSACT_MODELS") or Path(__file__).parents[1] / "models")
COMPENSATED_ON = 24  # rows


def smollm2() -> tuple[nn.Module, Callable[[str, int, int], Tensor]]:
    """The model, and rows of one of the texts: file, length, number."""
    model, tokenizer = load_language_model(str(MODELS / "smollm2"))

    def rows(file: str, length: int, count: int) -> Tensor:
        text = str(MODELS / "text" / file)
        return choose(read_rows(model, tokenizer, [text], length, count), count)

    return model.requires_grad_(False), rows


def in_turn(models: Mapping[str, nn.Module], passage: Passage, rounds: int) -> dict[str, object]:
    """Medians, and how much faster than the best dense model each sparse one is."""
    times = decode_in_turn(models, passage, rounds)
    ms = {name: statistics.median(found) for name, found in times.items()}
    best = min(value for name, value in ms.items() if name.startswith("dense"))
    return {
        "tokens of each": len(next(iter(times.values()))),
        "ms per token": {name: round(value, 2) for name, value in ms.items()},
        "times faster than the best dense": {
            name: round(best / value, 2) for name, value in ms.items() if name.startswith("sparse")
        },
    }


def check(sparse: nn.Module, passage: Passage) -> float:
    """How far the timed layers are from the simulation's on the same inputs."""
    apart = layers_apart(sparse, passage)
    assert apart < 1e-4, f"what is timed is not what is simulated: {apart}"
    return apart


@contextmanager
def timed_linears(model: nn.Module) -> Iterator[list[float]]:
    """Milliseconds of every call of a linear layer, the output head among them."""
    spent: list[float] = []
    layers = [m for m in model.modules() if isinstance(m, (nn.Linear, SparseLinear))]

    def timed(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def run(x: Tensor) -> Tensor:
            start = time.perf_counter()
            y = forward(x)
            spent.append(1e3 * (time.perf_counter() - start))
            return y

        return run

    for layer in layers:
        layer.forward = timed(layer.forward)
    try:
        yield spent
    finally:
        for layer in layers:
            del layer.forward


def outside(model: nn.Module, passage: Passage) -> dict[str, float]:
    """Where the time of a token goes; medians of tokens."""
    marks: list[int] = []
    with timed_linears(model) as spent:
        totals = decode(model, passage, prefill(model, passage), lambda _: marks.append(len(spent)))
    calls = marks[1] - marks[0]
    inside = [sum(spent[mark - calls : mark]) for mark in marks]
    rest = [total - part for total, part in zip(totals, inside, strict=True)]
    return {
        "ms in linear layers": round(statistics.median(inside[2:]), 2),
        "ms outside": round(statistics.median(rest[2:]), 2),
        "calls of linear layers": calls,
    }


def decode_smollm2() -> None:
    dense, rows = smollm2()
    batches = as_batches(rows("calibrate.txt", 128, 2))
    plans = {
        "sparse 50%": calibrate(dense, batches, 0.5, score="magnitude"),
        "sparse 0%": calibrate(dense, batches[:1], 0.0, score="magnitude"),
    }
    passage = greedy_passage(dense, rows("held_out.txt", 16, 1), 24)
    models = {"dense float32": dense, "dense bfloat16": copied(dense).bfloat16()}
    models |= {name: sparsify(copied(dense), plan, "bfloat16") for name, plan in plans.items()}
    models["sparse 50%, int8"] = sparsify(copied(dense), plans["sparse 50%"], "int8")
    found = in_turn(models, passage, 5)
    found["sparsity of the text decoded"] = round(
        byte_share(plans["sparse 50%"], dense, passage), 4
    )
    found["of a token"] = {name: outside(model, passage) for name, model in models.items()}
    found["layers apart from simulation"] = {
        name: float(f"{check(model, passage):.2g}")
        for name, model in models.items()
        if name.startswith("sparse")
    }
    write("language_decode", found)


def byte_share(plan: ThresholdPlan, model: nn.Module, passage: Passage) -> float:
    ids = torch.cat([passage.prompt, passage.tokens[None]], 1)
    shares = plan.measure(model, as_batches(ids))
    weights = {site.name: site.weights for site in plan.sites}
    return sum(weights[name] * share for name, share in shares.items()) / sum(weights.values())


def llama() -> nn.Module:
    """Random weights in the shapes of Llama-3.2-1B; block i has those of block i - 4."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=128_256,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=4,
        num_attention_heads=32,
        num_key_value_heads=8,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    blocks = model.model.layers
    while len(blocks) < 16:
        earlier = blocks[len(blocks) - 4]
        block = copied(earlier, sharing=earlier.parameters())
        block.self_attn.layer_idx = len(blocks)
        blocks.append(block)
    config.num_hidden_layers = len(blocks)
    return model


def copied(module: nn.Module, sharing: Iterable[Tensor] = ()) -> nn.Module:
    return copy.deepcopy(module, {id(tensor): tensor for tensor in sharing})


def llama_1b() -> None:
    dense = llama()
    embedding = dense.get_input_embeddings().weight
    prompt = torch.randint(1000, (1, 4))
    batch = {"input_ids": torch.randint(1000, (1, 32))}
    plan = calibrate(dense, [batch], 0.5, score="magnitude", allocate="uniform")
    models = {"dense float32": dense, "dense bfloat16": copied(dense).bfloat16()}
    for dtype in ("bfloat16", "int8"):
        models[f"sparse {dtype}"] = sparsify(copied(dense, [embedding]), plan, dtype)
    passage = greedy_passage(dense, prompt, 7)
    found = in_turn(models, passage, 3)
    share = byte_share(plan, dense, passage)
    found["sparsity of the text decoded"] = round(share, 4)
    skipped = {reader: share for site in plan.sites for reader in site.readers}
    found["gigabytes of weights read per token"] = {
        name: round(weight_bytes(model, skipped if name.startswith("sparse") else None) / 1e9, 2)
        for name, model in models.items()
    }
    del models["dense bfloat16"]
    found["layers apart from simulation"] = {
        name: float(f"{check(model, passage):.2g}")
        for name, model in models.items()
        if name.startswith("sparse")
    }
    write("language_llama1b", found)


def quality(sparsity: float = 0.5, steps: int = 0) -> None:
    """Perplexity by uniform magnitude, calibrated, compensated and tuned; how long each took."""
    model, rows = smollm2()
    every = rows("calibrate.txt", 512, 80)
    windows = rows("held_out.txt", 512, 16)
    few, more = as_batches(choose(every, 6)), as_batches(choose(every, COMPENSATED_ON))
    makers: dict[str, Callable[[], ThresholdPlan]] = {
        "uniform magnitude": lambda: calibrate(
            model, few, sparsity, score="magnitude", allocate="uniform"
        ),
        "calibrated": lambda: calibrate(model, few, sparsity),
        "compensated": lambda: compensate(plan, model, more),
    }
    if steps:
        makers["tuned"] = lambda: tune(plan, model, as_batches(every), steps)
    dense = window_losses(model, windows)
    found: dict[str, object] = {
        "dense perplexity": figures(perplexity(dense)),
        "steps of tuning": steps,
    }
    for name, make in makers.items():
        start = time.perf_counter()
        plan = make()
        seconds = time.perf_counter() - start
        with plan.applied(model):
            ratio = perplexity_ratio(window_losses(model, windows), dense)
        held_out = plan.measure(model, as_batches(choose(windows, 4)))
        found[name] = {
            "seconds": round(seconds),
            "sparsity on held-out text": round(byte_sparsity(plan.sites, held_out), 4),
            "perplexity, times dense": figures(ratio),
        }
        print(name, found[name], flush=True)
    write(f"language_quality_{sparsity:.0%}".rstrip("%"), found)


def figures(estimate: Estimate) -> dict[str, float | None]:
    error = None if estimate.error is None else round(estimate.error, 4)
    return {"value": round(estimate.value, 4), "standard error": error}


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(2)
    run, *given = sys.argv[1:]
    if run == "quality":
        quality(*map(float, given[:1]), *map(int, given[1:]))
    else:
        {"decode": decode_smollm2, "llama1b": llama_1b}[run]()
