"""The sides of `language_peers.py` that are other programs, each in a process of its own."""

import json
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf_files import bytes_for_a_token, quantised, smollm2_gguf
from torch import Tensor

from harness import Run

PEERS = Path(__file__).parent / "peers"
FORMATS = ("Q8_0", "Q4_0", "Q4_1", "Q4_K_M", "Q2_K")


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


def llama_sides(run: Run, python: str, threads: int, stack: ExitStack) -> list[Side]:
    """llama.cpp, quantised in each format."""
    source, sides = smollm2_gguf(run.models / "gguf"), []
    for form in run.size(FORMATS, ("Q8_0", "Q4_1")):
        file = source.with_name(f"{form}.gguf")
        if not file.exists():
            quantised(python, source, file, form)
        sides.append(llama_side(python, file, threads, stack))
    return sides


def llama_side(python: str, file: Path, threads: int, stack: ExitStack) -> Side:
    """llama.cpp with one file; its process ends with the stack."""
    worker = Worker(python, "llama.cpp", file, threads)
    stack.callback(worker.close)
    size = bytes_for_a_token(file)
    return Side("llama.cpp", file.stem, size, worker.decode, worker.logits)


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


def is_installed(python: str, module: str) -> bool:
    """Whether that Python exists and imports the module."""
    command = [python, "-c", f"import {module}"]
    return Path(python).exists() and not subprocess.run(command, capture_output=True).returncode


def peer_sides(run: Run, python: str, stack: ExitStack) -> tuple[list[Side], list[str]]:
    """The sides of the peers that are installed, and a sentence about each that is left out."""
    sides: list[Side] = []
    left_out = []
    makers = {"llama_cpp": llama_sides, "openvino_genai": openvino_sides}
    has_model = (run.models / "smollm2" / "tokenizer.json").exists()
    for module, make in makers.items():
        if not is_installed(python, module):
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
