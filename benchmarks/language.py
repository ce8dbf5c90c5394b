"""A language model whose linear layers skip inactive inputs, compared with the best dense one.

`python benchmarks/language.py decode` times a token of SmolLM2 (see `scripts/fetch_models.py`) at
50% sparsity and at 0%, and the share of its linear layers. `step` times a token of `sa.generate`,
one compiled call, in every dtype, beside `model.generate` and a plain read of memory. `llama1b`
does as `decode` for random weights in the shapes of Llama-3.2-1B. `quality 0.5 140` measures the
perplexity at 50% sparsity on held-out text: calibrated, then compensated, then after 140 steps of
tuning.

In the Llama, every fourth block has the same dense weights, so that building it is cheap: four
blocks take 0.9 GB in float32, far more than any cache. Sparse layers have weights of their own. All
models read the complete output head, 128256 × 2048, which is tied to the embedding as in the
original.
"""

import copy
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import token_step
import torch
from torch import Tensor, nn

from harness import Run, main
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

COMPENSATED_ON = 24  # rows


def smollm2(run: Run) -> tuple[nn.Module, Callable[[str, int, int], Tensor]]:
    """Return the model, and a function that reads rows of a text: file, length, count."""
    model, tokenizer = load_language_model(str(run.models / "smollm2"))

    def rows(file: str, length: int, count: int) -> Tensor:
        text = str(run.models / "text" / file)
        return choose(read_rows(model, tokenizer, [text], length, count), count)

    return model.requires_grad_(False), rows


def in_turn(models: Mapping[str, nn.Module], passage: Passage, rounds: int) -> dict[str, object]:
    """Measure medians, and the speed of each sparse model against the best dense one."""
    times = decode_in_turn(models, passage, rounds)
    ms = {name: statistics.median(values) for name, values in times.items()}
    best = min(value for name, value in ms.items() if name.startswith("dense"))
    return {
        "tokens of each": len(next(iter(times.values()))),
        "ms per token": {name: round(value, 2) for name, value in ms.items()},
        "times faster than the best dense": {
            name: round(best / value, 2) for name, value in ms.items() if name.startswith("sparse")
        },
    }


def check(sparse: nn.Module, passage: Passage) -> float:
    """Return the difference between the timed and the simulated layers on the same inputs."""
    difference = layers_apart(sparse, passage)
    assert difference < 1e-4, f"the timed layers differ from the simulated ones: {difference}"
    return difference


@contextmanager
def timed_linears(model: nn.Module) -> Iterator[list[float]]:
    """Collect the milliseconds of every call of a linear layer, including the output head."""
    spent: list[float] = []
    layers = [m for m in model.modules() if isinstance(m, (nn.Linear, SparseLinear))]

    def timed(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def timed_forward(x: Tensor) -> Tensor:
            start = time.perf_counter()
            y = forward(x)
            spent.append(1e3 * (time.perf_counter() - start))
            return y

        return timed_forward

    for layer in layers:
        layer.forward = timed(layer.forward)
    try:
        yield spent
    finally:
        for layer in layers:
            del layer.forward


def outside(model: nn.Module, passage: Passage) -> dict[str, float]:
    """Split the time of a token into linear layers and the rest; medians over tokens."""
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


def decode_smollm2(run: Run) -> None:
    dense, rows = smollm2(run)
    batches = as_batches(rows("calibrate.txt", run.size(128, 16), 2))
    plans = {
        "sparse 50%": calibrate(dense, batches, 0.5, score="magnitude"),
        "sparse 0%": calibrate(dense, batches[:1], 0.0, score="magnitude"),
    }
    passage = greedy_passage(dense, rows("held_out.txt", run.size(16, 8), 1), run.size(24, 5))
    models = {"dense float32": dense, "dense bfloat16": copied(dense).bfloat16()}
    models |= {name: sparsify(copied(dense), plan, "bfloat16") for name, plan in plans.items()}
    models["sparse 50%, int8"] = sparsify(copied(dense), plans["sparse 50%"], "int8")
    results = in_turn(models, passage, run.size(5, 1))
    share = byte_share(plans["sparse 50%"], dense, passage)
    results["sparsity of the text decoded"] = round(share, 4)
    results["of a token"] = {name: outside(model, passage) for name, model in models.items()}
    results["layers apart from simulation"] = {
        name: float(f"{check(model, passage):.2g}")
        for name, model in models.items()
        if name.startswith("sparse")
    }
    run.write("language_decode", results)


def step(run: Run) -> None:
    """Time a token of `sa.generate` beside `model.generate`, and what it consists of."""
    token_step.step(run, *smollm2(run))


def byte_share(plan: ThresholdPlan, model: nn.Module, passage: Passage) -> float:
    ids = torch.cat([passage.prompt, passage.tokens[None]], 1)
    shares = plan.measure(model, as_batches(ids))
    weights = {site.name: site.weights for site in plan.sites}
    return sum(weights[name] * share for name, share in shares.items()) / sum(weights.values())


def llama(run: Run) -> nn.Module:
    """Make random weights in the shapes of Llama-3.2-1B; block i has those of block i - 4."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=run.size(128_256, 1000),
        hidden_size=run.size(2048, 32),
        intermediate_size=run.size(8192, 64),
        num_hidden_layers=4,
        num_attention_heads=run.size(32, 4),
        num_key_value_heads=run.size(8, 2),
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    blocks = model.model.layers
    while len(blocks) < run.size(16, 5):
        earlier = blocks[len(blocks) - 4]
        block = copied(earlier, sharing=earlier.parameters())
        block.self_attn.layer_idx = len(blocks)
        blocks.append(block)
    config.num_hidden_layers = len(blocks)
    return model


def copied(module: nn.Module, sharing: Iterable[Tensor] = ()) -> nn.Module:
    return copy.deepcopy(module, {id(tensor): tensor for tensor in sharing})


def llama_1b(run: Run) -> None:
    dense = llama(run)
    embedding = dense.get_input_embeddings().weight
    prompt = torch.randint(1000, (1, 4))
    batch = {"input_ids": torch.randint(1000, (1, 32))}
    plan = calibrate(dense, [batch], 0.5, score="magnitude", allocate="uniform")
    models = {"dense float32": dense, "dense bfloat16": copied(dense).bfloat16()}
    for dtype in ("bfloat16", "int8"):
        models[f"sparse {dtype}"] = sparsify(copied(dense, [embedding]), plan, dtype)
    passage = greedy_passage(dense, prompt, run.size(7, 5))
    results = in_turn(models, passage, run.size(3, 1))
    share = byte_share(plan, dense, passage)
    results["sparsity of the text decoded"] = round(share, 4)
    skipped = {reader: share for site in plan.sites for reader in site.readers}
    results["gigabytes of weights read per token"] = {
        name: round(weight_bytes(model, skipped if name.startswith("sparse") else None) / 1e9, 2)
        for name, model in models.items()
    }
    del models["dense bfloat16"]
    results["layers apart from simulation"] = {
        name: float(f"{check(model, passage):.2g}")
        for name, model in models.items()
        if name.startswith("sparse")
    }
    run.write("language_llama1b", results)


def quality(run: Run, sparsity: float = 0.5, steps: int = 0) -> None:
    """Measure perplexity and seconds: uniform magnitude, calibrated, compensated and tuned."""
    steps = run.size(steps, 1)
    model, rows = smollm2(run)
    length = run.size(512, 16)
    all_rows = rows("calibrate.txt", length, run.size(80, 4))
    windows = rows("held_out.txt", length, run.size(16, 2))
    few = as_batches(choose(all_rows, min(6, len(all_rows))))
    more = as_batches(choose(all_rows, min(COMPENSATED_ON, len(all_rows))))
    makers: dict[str, Callable[[], ThresholdPlan]] = {
        "uniform magnitude": lambda: calibrate(
            model, few, sparsity, score="magnitude", allocate="uniform"
        ),
        "calibrated": lambda: calibrate(model, few, sparsity),
        "compensated": lambda: compensate(plan, model, more),
    }
    if steps:
        makers["tuned"] = lambda: tune(plan, model, as_batches(all_rows), steps)
    dense = window_losses(model, windows)
    results: dict[str, object] = {
        "dense perplexity": figures(perplexity(dense)),
        "steps of tuning": steps,
    }
    for name, make in makers.items():
        start = time.perf_counter()
        plan = make()
        seconds = time.perf_counter() - start
        with plan.applied(model):
            ratio = perplexity_ratio(window_losses(model, windows), dense)
        held_out = plan.measure(model, as_batches(choose(windows, min(4, len(windows)))))
        results[name] = {
            "seconds": round(seconds),
            "sparsity on held-out text": round(byte_sparsity(plan.sites, held_out), 4),
            "perplexity, times dense": figures(ratio),
        }
        print(name, results[name], flush=True)
    run.write(f"language_quality_{sparsity:.0%}".rstrip("%"), results)


def figures(estimate: Estimate) -> dict[str, float | None]:
    error = None if estimate.error is None else round(estimate.error, 4)
    return {"value": round(estimate.value, 4), "standard error": error}


if __name__ == "__main__":
    parts = {"decode": decode_smollm2, "step": step, "llama1b": llama_1b, "quality": quality}
    main(__doc__, parts, threads=2)
