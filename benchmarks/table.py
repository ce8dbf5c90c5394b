"""Write the measured ratios into the README, from the JSON of the last runs.

python benchmarks/table.py [--readme FILE]
"""

import argparse
import json
from pathlib import Path
from typing import Any

from harness import RESULTS

README = Path(__file__).parents[1] / "README.md"
START, END = "<!-- measured: start -->", "<!-- measured: end -->"

FAST = "times faster than the best dense"
EAGER = "composite / ours learned"
STEP = "sa.generate, times faster than dense"
# claim, against what, script, file of results, the way to the number
ROWS: list[tuple[str, str, str, str, tuple[str, ...]]] = [
    (
        "linear layer 4096→14336, batch 1, bfloat16 weights, 50% of the inputs zero",
        "best dense `F.linear`",
        "gather_linear",
        "gather_linear_4096x14336",
        (FAST, "bfloat16, 50% zeros"),
    ),
    (
        "linear layer 4096→14336, batch 1, bfloat16 weights, 90% of the inputs zero",
        "best dense `F.linear`",
        "gather_linear",
        "gather_linear_4096x14336",
        (FAST, "bfloat16, 90% zeros"),
    ),
    (
        "linear layer 4096→14336, batch 1, int8 weights, 75% of the inputs zero",
        "best dense `F.linear`",
        "gather_linear",
        "gather_linear_4096x14336",
        (FAST, "int8, 75% zeros"),
    ),
    (
        "autoencoder's decoder, backward (32 of 12288 latents, width 768, batch 2048)",
        "dense matmuls",
        "sparse_training",
        "sparse_decoder",
        ("csr_linear backward", "dense / ours"),
    ),
    (
        "autoencoder's encoder with top-k, forward (same sizes)",
        "matmul and `torch.topk`",
        "sparse_training",
        "sparse_encoder",
        ("linear_topk", "matmul and torch.topk / ours"),
    ),
    (
        "training step of a top-k autoencoder, 576 → 8192, k = 32",
        "the same step, dense",
        "sae",
        "sae_topk",
        ("trained", "ratio"),
    ),
    (
        "training step of a jumprelu autoencoder, L0 = 64",
        "the same step, dense",
        "sae",
        "sae_jumprelu",
        ("trained", "ratio"),
    ),
    (
        "training step of a relu autoencoder with an L1 penalty, L0 = 64",
        "the same step, dense",
        "sae",
        "sae_relu",
        ("trained", "ratio"),
    ),
    (
        "training step of a top-k autoencoder on activations of SmolLM2, batch 2048",
        "sparsify",
        "sae_peers",
        "sae_peers_steps",
        ("sparsify / ours",),
    ),
    (
        "training step of a top-k autoencoder on activations of SmolLM2, batch 2048",
        "SAELens",
        "sae_peers",
        "sae_peers_steps",
        ("SAELens / ours",),
    ),
    (
        'the same step, selection in bfloat16 (`mixed_precision="bf16"`)',
        "sparsify",
        "sae_peers",
        "sae_peers_steps",
        ("sparsify / ours, bf16 selection",),
    ),
    (
        "the same step, selection in bfloat16",
        "SAELens",
        "sae_peers",
        "sae_peers_steps",
        ("SAELens / ours, bf16 selection",),
    ),
    (
        "softshrink with a learned λ per channel, forward and backward, float32",
        "`sign(x)·relu(abs(x) − λ)`",
        "thresholds",
        "thresholds_eager",
        ("softshrink float32", EAGER),
    ),
    (
        "hardshrink with a learned λ per channel, forward and backward, float32",
        "its formula in plain torch operations",
        "thresholds",
        "thresholds_eager",
        ("hardshrink float32", EAGER),
    ),
    (
        "denoising of 16 images, 512×512",
        "scikit-image",
        "denoise",
        "denoise_speed",
        ("ratio", "our images per second / scikit-image's"),
    ),
    (
        "token of a random Llama with the shapes of 1B, 50% of the weights skipped, bfloat16",
        "the faster of dense float32 and dense bfloat16",
        "language",
        "language_llama1b",
        (FAST, "sparse bfloat16"),
    ),
    (
        "token of a random Llama with the shapes of 1B, 50% of the weights skipped, int8",
        "the faster of dense float32 and dense bfloat16",
        "language",
        "language_llama1b",
        (FAST, "sparse int8"),
    ),
    *(
        (
            f"token of SmolLM2-135M by `sa.generate`, 50% of the weights skipped, {dtype}",
            "`sa.generate`, dense in bfloat16",
            "language",
            "language_step",
            (f"50% {dtype}", STEP),
        )
        for dtype in ("bfloat16", "int8", "int4")
    ),
    (
        "token of SmolLM2-135M by `model.generate`, 50% of the weights skipped, int8",
        "the faster of dense float32 and dense bfloat16",
        "language",
        "language_decode",
        (FAST, "sparse 50%, int8"),
    ),
]


def read(file: str) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((RESULTS / f"{file}.json").read_text())
    return results


def machines() -> str:
    """What the figures were measured on."""
    environments = [read(file)["environment"] for _, _, _, file, _ in ROWS]
    names = [
        f"{environment['threads']} cores of {environment['cpu']}" for environment in environments
    ]
    return " or ".join(dict.fromkeys(names))


def figure(file: str, way: tuple[str, ...]) -> float:
    value: Any = read(file)["results"]
    for key in way:
        value = value[key]
    return float(value)


def table() -> str:
    lines = ["| what | against | times faster | script |", "|---|---|---|---|"]
    for claim, other, script, file, way in ROWS:
        lines.append(f"| {claim} | {other} | {figure(file, way):.1f} | `{script}.py` |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the measured ratios into the README.")
    parser.add_argument("--readme", type=Path, default=README, help="file with the two marks")
    readme: Path = parser.parse_args().readme
    before, rest = readme.read_text(encoding="utf-8").split(START)
    _, after = rest.split(END)
    readme.write_text(
        f"{before}{START}\n\nOn {machines()}:\n\n{table()}\n\n{END}{after}", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
