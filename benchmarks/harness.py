"""What all benchmarks share: the command line, alternating measurements, and the JSON results.

Every script is called as

    python benchmarks/SCRIPT.py [PART [VALUE ...]] [--tiny] [--results DIR] [--models DIR]

Without a part, all its parts run one after the other. ``--tiny`` runs them at the smallest size, to
check that the script works; the times mean nothing then.
"""

import argparse
import inspect
import json
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """The options of a call of a script."""

    tiny: bool
    results: Path
    models: Path

    def size(self, full: T, tiny: T) -> T:
        """Choose between the size of the claim and the smallest size."""
        return tiny if self.tiny else full

    def alternate(
        self, sides: Mapping[str, Callable[[], object]], repeats: int = 21, warmup: int = 3
    ) -> dict[str, float]:
        """Measure the median milliseconds of each side.

        Every repeat runs all sides. Their order changes from repeat to repeat: a side that always
        follows the same other side inherits its caches and its allocator.
        """
        repeats, warmup = self.size((repeats, warmup), (1, 1))
        order = list(sides)
        shuffle = random.Random(0).shuffle
        for _ in range(warmup):
            for side in sides.values():
                side()
        times: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(repeats):
            shuffle(order)
            for name in order:
                start = time.perf_counter()
                sides[name]()
                times[name].append(1e3 * (time.perf_counter() - start))
        return {name: statistics.median(values) for name, values in times.items()}

    def write(self, name: str, results: object) -> None:
        """Print the results and write them as JSON, with versions, CPU and threads."""
        environment = {
            "torch": torch.__version__,
            "python": platform.python_version(),
            "cpu": f"{_cpu()}, {_units()}",
            "threads": torch.get_num_threads(),
        }
        self.results.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"environment": environment, "results": results}, indent=2)
        (self.results / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        print(text)

    def read(self, name: str) -> dict[str, Any]:
        """Return the environment and the results that an earlier run has written."""
        return dict(json.loads((self.results / f"{name}.json").read_text(encoding="utf-8")))


def main(
    description: str | None, parts: Mapping[str, Callable[..., None]], threads: int | None = None
) -> None:
    """Run one part of a script, or all of them, as the command line says.

    Args:
        description: the docstring of the script, for its ``--help``.
        parts: name → function. The function takes the `Run`, then the values from the command
            line, converted to the types in its signature.
        threads: the number of threads of torch; None leaves it as it is.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="?", choices=list(parts), help="default: all of them")
    parser.add_argument("values", nargs="*", metavar="VALUE", help="the arguments of the part")
    parser.add_argument("--tiny", action="store_true", help="run at the smallest size")
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory for the results")
    parser.add_argument(
        "--models",
        type=Path,
        default=Path(os.environ.get("SPARSACT_MODELS") or ROOT / "models"),
        help="directory with the models and texts of scripts/fetch_models.py",
    )
    options = parser.parse_args()
    run = Run(options.tiny, options.results, options.models)
    chosen = parts if options.part is None else {options.part: parts[options.part]}
    torch.manual_seed(0)
    if threads is not None:
        torch.set_num_threads(threads)
    for name, function in chosen.items():
        try:
            values = _converted(function, options.values)
        except (TypeError, ValueError) as error:
            parser.error(f"{name}: {error}")
        function(run, *values)


def _converted(function: Callable[..., None], texts: list[str]) -> list[Any]:
    """Convert the values from the command line to the types in the signature of a part."""
    signature = inspect.signature(function)
    signature.bind(None, *texts)
    _, *parameters = signature.parameters.values()
    if parameters and parameters[-1].kind is inspect.Parameter.VAR_POSITIONAL:
        parameters += parameters[-1:] * len(texts)
    return [parameter.annotation(text) for parameter, text in zip(parameters, texts, strict=False)]


def _units() -> str:
    """Describe what most results depend on: the width of vectors, and units for bfloat16."""
    has_units = torch.cpu.get_capabilities().get("avx512_bf16")
    return torch.backends.cpu.get_cpu_capability() + (" with bfloat16 units" if has_units else "")


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
