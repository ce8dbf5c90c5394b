"""Ours, llama.cpp and OpenVINO GenAI on one model: perplexity, time and bytes for a token.

    python benchmarks/language_peers.py [plans | compare [PYTHON] | llama1b [PYTHON]]

`plans` tunes the plans of ours, about 10 minutes each, and keeps them beside the models; `compare`
makes those that are missing. `llama1b` times random weights in the shapes of Llama-3.2-1B; only
times are compared there. PYTHON is that of the peers' environment, by default
`build/peers-language/bin/python`:

    python -m venv build/peers-language
    CMAKE_BUILD_PARALLEL_LEVEL=1 build/peers-language/bin/pip install \
        --no-binary llama-cpp-python -r benchmarks/peers/language.txt

It needs cmake and a C++ compiler, and builds llama.cpp for this machine's CPU. A peer that is not
installed is left out, and the results say so.

All sides use the same model, prompt, threads and number of tokens, decode greedily, and take turns
in every round, in a changing order. llama.cpp's files are made from the model's own GGUF file by
its own function. One evaluator computes all perplexities: every side returns its logits for the
same held-out token ids. SmolLM2's GGUF file has 4-bit weights with a minimum (Q4_1), which that
format of llama.cpp therefore stores without loss.
"""

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from gguf_files import llama_gguf, quantised
from language import COMPENSATED_ON, copied, llama, smollm2
from language_sides import Side, is_installed, llama_side, peer_sides
from token_step import generate_there
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

import sparsact as sa
from harness import ROOT, Run, main
from sparsact.calibration import ThresholdPlan
from sparsact.evaluation.perplexity import perplexity
from sparsact.evaluation.weight_bytes import weight_bytes
from sparsact.inference.sparse_linear import DTYPES
from sparsact.text.windows import as_batches

ENVIRONMENT = ROOT / "build" / "peers-language" / "bin" / "python"
SPARSITIES = (0.0, 0.4, 0.5, 0.6)
TUNED_ON, TUNING_STEPS = 80, 140  # rows, steps
FASTER = "times faster than llama.cpp"
INT8, INT4 = "ours int8, sa.generate", "ours int4, sa.generate"
SAME_BITS = {INT8: "Q8_0", INT4: "Q4_1"}
Rows = Callable[[str, int, int], Tensor]


def generate_ms(generate: Callable[..., Tensor], prompt: list[int], count: int) -> float:
    """Milliseconds a token after the first, from two calls of a ``generate``."""
    ids = torch.tensor([prompt])
    spent = []
    for tokens in (1, count + 1):
        start = time.perf_counter()
        made = generate(ids, tokens).shape[1] - len(prompt)
        spent.append(1e3 * (time.perf_counter() - start))
        assert made == tokens, f"{made} tokens were made instead of {tokens}"
    return (spent[1] - spent[0]) / count


def own_sides(method: str, label: str, model: nn.Module, bytes_read: int) -> list[Side]:
    """A model with transformers' ``generate``; a sparse one also with ours."""

    def theirs(ids: Tensor, tokens: int) -> Tensor:
        return generate_there(model, ids, tokens)

    def ours(ids: Tensor, tokens: int) -> Tensor:
        return sa.generate(model, ids, max_new_tokens=tokens, eos_token_id=())

    def logits(window: Tensor) -> Tensor:
        with torch.inference_mode():
            return model(input_ids=window[None]).logits[0].float()

    def side(name: str, generate: Callable[..., Tensor]) -> Side:
        decode = lambda prompt, count: generate_ms(generate, prompt, count)  # noqa: E731
        return Side(name, label, bytes_read, decode, logits)

    sides = [side(method, theirs)]
    if not method.startswith("dense"):
        sides.append(side(f"{method}, sa.generate", ours))
    return sides


def tuned_plan(run: Run, dense: nn.Module, rows: Rows, sparsity: float) -> ThresholdPlan:
    """The plan of a sparsity, calibrated, compensated and tuned; kept beside the models."""
    folder = run.models / "plans" / f"smollm2_{100 * sparsity:.0f}"
    if folder.exists() and not run.tiny:
        return ThresholdPlan.load(folder)
    batches = as_batches(rows("calibrate.txt", run.size(512, 32), run.size(COMPENSATED_ON, 4)))
    plan = sa.calibrate(dense, batches[:6], sparsity)
    if sparsity:
        plan = sa.compensate(plan, dense, batches)
    if sparsity and not run.tiny:
        tuned_on = as_batches(rows("calibrate.txt", 512, TUNED_ON))
        plan = sa.tune(plan, dense, tuned_on, TUNING_STEPS)
    if not run.tiny:
        plan.save(folder)
    return plan


def sparse_model(
    run: Run, dense: nn.Module, rows: Rows, plan: ThresholdPlan, dtype: str
) -> nn.Module:
    """The sparse model of a plan. That of 4 bits is rounded on text, and kept beside the plan."""
    if dtype != "int4":
        return sa.sparsify(copied(dense), plan, dtype)
    folder = run.models / "plans" / f"smollm2_{100 * plan.sparsity:.0f}_{dtype}"
    if not run.tiny and folder.exists():
        return AutoModelForCausalLM.from_pretrained(folder).eval()
    batches = as_batches(rows("calibrate.txt", run.size(512, 32), run.size(COMPENSATED_ON, 4)))
    model = sa.sparsify(copied(dense), plan, dtype, batches=batches)
    if not run.tiny:
        model.save_pretrained(folder)
    return model


def plans(run: Run) -> None:
    """Make the plans, and the models of 4 bits, that `compare` uses."""
    dense, rows = smollm2(run)
    for sparsity in run.size(SPARSITIES, (0.5,)):
        plan = tuned_plan(run, dense, rows, sparsity)
        sparse_model(run, dense, rows, plan, "int4")
        print(f"{sparsity:.0%}: {len(plan.sites)} sites", flush=True)


def our_sides(run: Run, dense: nn.Module, rows: Rows) -> list[Side]:
    """Dense models, and sparse ones by stored dtype and sparsity."""
    sides = []
    for dtype in ("float32", "bfloat16"):
        model = copied(dense).to(getattr(torch, dtype))
        sides += own_sides(f"dense {dtype}", dtype, model, weight_bytes(model))
    for sparsity in run.size(SPARSITIES, (0.5,)):
        plan = tuned_plan(run, dense, rows, sparsity)
        for dtype in run.size([name for name in DTYPES if name != "float32"], ["int8"]):
            model = sparse_model(run, dense, rows, plan, dtype)
            size = weight_bytes(model, skipped_shares(plan))
            sides += own_sides(f"ours {dtype}", f"{sparsity:.0%}", model, size)
    return sides


def skipped_shares(plan: ThresholdPlan) -> dict[str, float]:
    """The share of the rows of each layer's weight that a token does not read."""
    return {reader: plan.achieved[site.name] for site in plan.sites for reader in site.readers}


def losses(side: Side, windows: Tensor) -> Tensor:
    """The mean cross-entropy of each window, from the side's logits."""
    values = []
    for window in windows:
        logits = side.logits(window)
        values.append(float(cross_entropy(logits[:-1, :].float(), window[1:])))
    return torch.tensor(values, dtype=torch.float64)


def compare(run: Run, python: str = str(ENVIRONMENT)) -> None:
    """Measure all sides, and draw perplexity against time and against bytes."""
    dense, rows = smollm2(run)
    windows = rows("held_out.txt", run.size(512, 32), run.size(16, 2))
    prompt = rows("held_out.txt", run.size(64, 8), 3)[1].tolist()
    count, rounds = run.size(64, 3), run.size(7, 1)
    with ExitStack() as stack:
        sides, left_out = peer_sides(run, python, stack)
        sides += our_sides(run, dense, rows)
        times = decoded_in_turn(sides, prompt, count, rounds)
        perplexities: dict[Callable[[Tensor], Tensor], float] = {}
        for side in sides:  # a model with two ways to generate is evaluated once
            if side.logits not in perplexities:
                perplexities[side.logits] = perplexity(losses(side, windows)).value
        points = [
            {
                "method": side.method,
                "label": side.label,
                "ms per token": round(ms, 2),
                "megabytes per token": round(side.bytes_read / 1e6, 1),
                "perplexity": round(perplexities[side.logits], 2),
            }
            for side, ms in zip(sides, times, strict=True)
        ]
    for sentence in left_out:
        print(sentence, file=sys.stderr)
    draw(points, run.results / "language_peers.png")
    results = {"points": points, "left out": left_out}
    run.write("language_peers", results | {FASTER: times_faster(sides, times, SAME_BITS)})


def times_faster(
    sides: list[Side], times: list[float], same_bits: dict[str, str]
) -> dict[str, float]:
    """The speed of `sa.generate` against the file of llama.cpp that has as many bits."""
    theirs = {
        side.label: ms for side, ms in zip(sides, times, strict=True) if side.method == "llama.cpp"
    }
    return {
        f"{side.method}, {side.label} / {same_bits[side.method]}": round(
            theirs[same_bits[side.method]] / ms, 2
        )
        for side, ms in zip(sides, times, strict=True)
        if same_bits.get(side.method) in theirs
    }


def decoded_in_turn(sides: list[Side], prompt: list[int], count: int, rounds: int) -> list[float]:
    """The median milliseconds of a token of each side."""
    times: dict[int, list[float]] = {number: [] for number in range(len(sides))}
    order = list(times)
    for turn in range(rounds + 1):
        random.Random(turn).shuffle(order)
        for number in order:
            ms = sides[number].decode(prompt, count)
            if turn:  # the first round warms up
                times[number].append(ms)
    return [statistics.median(values) for values in times.values()]


def llama_1b(run: Run, python: str = str(ENVIRONMENT)) -> None:
    """Time random weights of a larger model; the sparse ones skip half of their rows."""
    dense = llama(run)
    embedding = dense.get_input_embeddings().weight
    batch = {"input_ids": torch.randint(1000, (1, 32))}
    plan = sa.calibrate(dense, [batch], 0.5, score="magnitude", allocate="uniform")
    with ExitStack() as stack:
        sides, left_out = random_llama_sides(dense, python, stack)
        for dtype in ("int8", "int4"):
            model = sa.sparsify(copied(dense, [embedding]), plan, dtype)
            size = weight_bytes(model, skipped_shares(plan))
            sides += own_sides(f"ours {dtype}", "50%", model, size)[1:]
        del dense
        times = decoded_in_turn(sides, list(range(16)), run.size(32, 3), run.size(7, 1))
    results = {
        f"{side.method} {side.label}": {
            "ms per token": round(ms, 2),
            "megabytes per token": round(side.bytes_read / 1e6, 1),
        }
        for side, ms in zip(sides, times, strict=True)
    }
    faster = times_faster(sides, times, {INT8: "Q8_0", INT4: "Q4_0"})
    run.write("language_peers_llama1b", results | {"left out": left_out, FASTER: faster})


def random_llama_sides(
    model: nn.Module, python: str, stack: ExitStack
) -> tuple[list[Side], list[str]]:
    """llama.cpp with a model's weights in two formats, or a sentence that it is left out."""
    if not is_installed(python, "llama_cpp"):
        return [], [f"llama_cpp is left out: {python} cannot import it"]
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    source, sides = folder / "float16.gguf", []
    llama_gguf(model, source)
    for form in ("Q8_0", "Q4_0"):
        file = folder / f"{form}.gguf"
        quantised(python, source, file, form)
        sides.append(llama_side(python, file, torch.get_num_threads(), stack))
    source.unlink()
    return sides, []


def draw(points: list[dict[str, Any]], file: Path) -> None:
    """One picture: each method a curve, perplexity against time and against bytes."""
    from matplotlib.figure import Figure

    figure = Figure((11, 4.5), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    curves: dict[str, list[dict[str, Any]]] = {}
    for point in points:
        curves.setdefault(point["method"], []).append(point)
    for axis, unit in zip(axes, ("ms per token", "megabytes per token"), strict=True):
        for method, members in curves.items():
            ordered = sorted(members, key=lambda point: point[unit])
            x, y = ([point[key] for point in ordered] for key in (unit, "perplexity"))
            axis.plot(x, y, marker="o", label=method)
            for point in ordered:
                place = (point[unit], point["perplexity"])
                axis.annotate(point["label"], place, fontsize=7, xytext=(3, 3),
                              textcoords="offset points")  # fmt: skip
        axis.set_xlabel(unit)
        axis.set_yscale("log")
    axes[0].set_ylabel("perplexity")
    axes[1].legend(fontsize=8)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=150)


if __name__ == "__main__":
    main(__doc__, {"plans": plans, "compare": compare, "llama1b": llama_1b})
