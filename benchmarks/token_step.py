"""The time of a token of `sparsact.generate`, and what it consists of; a part of `language.py`."""

import copy
import statistics
import time
from collections.abc import Callable

import torch
from gather_linear import compiled_reads
from torch import Tensor, nn

import sparsact as sa
from harness import Run
from sparsact.calibration import ThresholdPlan
from sparsact.evaluation.weight_bytes import weight_bytes
from sparsact.inference.fused_decoder import fused_decoder
from sparsact.text.windows import as_batches

Rows = Callable[[str, int, int], Tensor]


def step(run: Run, dense: nn.Module, rows: Rows) -> None:
    """Time every dtype at 0% and 50%, `sa.generate` and `model.generate` in turn."""
    batches = as_batches(rows("calibrate.txt", run.size(128, 16), 2))
    prompt = rows("held_out.txt", run.size(16, 8), 1)
    models: dict[str, nn.Module] = {"dense bfloat16": copy.deepcopy(dense).bfloat16()}
    skipped: dict[str, dict[str, float]] = {"dense bfloat16": {}}
    for sparsity in (0.0, 0.5):
        plan = sa.calibrate(dense, batches, sparsity, score="magnitude")
        for dtype in ("bfloat16", "int8", "int4"):
            name = f"{sparsity:.0%} {dtype}"
            models[name] = sa.sparsify(copy.deepcopy(dense), plan, dtype)
            skipped[name] = shares(plan, dense, sa.generate(dense, prompt, run.size(64, 6)))
    ours = per_token(run, models, prompt, lambda m, n: sa.generate(m, prompt, n, eos_token_id=()))
    theirs = per_token(run, models, prompt, lambda m, n: generate_there(m, prompt, n))
    results: dict[str, object] = {}
    for name, model in models.items():
        size = weight_bytes(model, skipped[name])
        results[name] = {
            "ms, sa.generate": round(ours[name], 2),
            "ms, model.generate": round(theirs[name], 2),
            "sa.generate, times faster than dense": round(ours["dense bfloat16"] / ours[name], 2),
            **parts(model, prompt, run.size(40, 2)),
            "MB of weights read": round(size / 1e6, 1),
            "GB/s": round(size / ours[name] / 1e6, 1),
        }
    results["GB/s of a plain read"] = plain_read(run)
    run.write("language_step", results)


def shares(plan: ThresholdPlan, model: nn.Module, ids: Tensor) -> dict[str, float]:
    """The share of each layer's weight that the text does not read."""
    measured = plan.measure(model, as_batches(ids))
    return {reader: measured[site.name] for site in plan.sites for reader in site.readers}


def per_token(
    run: Run,
    models: dict[str, nn.Module],
    prompt: Tensor,
    generate: Callable[[nn.Module, int], object],
) -> dict[str, float]:
    """Milliseconds of a token: of many tokens less those of two, so without the prompt."""
    many, few = run.size(66, 5), 2
    sides = {
        (name, count): (lambda model=model, count=count: generate(model, count))
        for name, model in models.items()
        for count in (many, few)
    }
    medians = run.alternate(sides, repeats=7, warmup=1)
    return {name: (medians[name, many] - medians[name, few]) / (many - few) for name in models}


def generate_there(model: nn.Module, prompt: Tensor, count: int) -> Tensor:
    return model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=count,
        do_sample=False,
        eos_token_id=None,
    )


def parts(model: nn.Module, prompt: Tensor, count: int) -> dict[str, float]:
    """Median milliseconds of the parts of the compiled step, and of its call from Python."""
    session = fused_decoder(model).session(model, prompt.shape[1] + count)
    times = []
    with torch.inference_mode():
        for token in prompt[0].tolist():
            session.append(token)
        for token in prompt[0, :1].tolist() * count:
            start = time.perf_counter()
            seconds = session.seconds(token)
            call = time.perf_counter() - start - sum(seconds.values())
            times.append({**seconds, "the call": call})
    return {
        f"ms, {name}": round(1e3 * statistics.median(t[name] for t in times), 2)
        for name in times[0]
    }


def plain_read(run: Run) -> float:
    """Gigabytes a second at which this many threads read memory that no cache holds."""
    data = torch.zeros(run.size(1 << 28, 1 << 20), dtype=torch.uint8)
    threads, fastest = torch.get_num_threads(), 0.0
    sums = torch.zeros(threads, dtype=torch.int64)
    for read in compiled_reads().values():
        for _ in range(run.size(15, 1)):
            start = time.perf_counter()
            read(threads, data.data_ptr(), data.nbytes // 4, sums.data_ptr())
            fastest = max(fastest, data.nbytes / (time.perf_counter() - start) / 1e9)
    return round(fastest, 1)
