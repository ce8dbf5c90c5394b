"""Quality on a real model: layer 15 of SmolLM2, by three libraries in equally many steps.

    python scripts/fetch_models.py && python scripts/gather_text.py
    python benchmarks/sae_smollm2.py harvest
    python benchmarks/sae_smollm2.py train ours 0       # each of ours, sparsify, SAELens
    python benchmarks/sae_smollm2.py figures
    python benchmarks/sae_smollm2.py all                # the last two, for two seeds

The claim: at equal steps, batches, learning rate and k the autoencoder trained here explains
held-out activations no worse. All read the same batches in the same order; what each library
does before its first step is its own. The figures are of one evaluator, which reads all three
from the files that the libraries wrote. A third argument of `train` limits its seconds: the same
command goes on where it stopped.
"""

import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from harness import write
from sae_sides import LOAD, SIDES
from sparsact.sae import SparseAutoencoder, evaluate, harvest, open_rows
from sparsact.text import load_language_model, read_tokens

ROOT = Path(__file__).parents[1]
MODELS, ACTIVATIONS, RUNS = (
    ROOT / "models",
    ROOT / "models" / "activations",
    ROOT / "runs" / "smollm2",
)
LAYER, D_SAE, K, BATCH = "model.layers.15", 8192, 32, 2048
STEPS, MEASURED_EVERY = 300, 100


def gather() -> None:
    """The activations, in shards: cut off, it goes on where it was."""
    model, tokenizer = load_language_model(str(MODELS / "smollm2"))
    for part in ("held_out", "train"):
        tokens = read_tokens(tokenizer, [MODELS / "docstrings" / f"{part}.txt"])
        rows = harvest(model, LAYER, tokens, ACTIVATIONS / part, batch_rows=4, shard_rows=16)
        print(f"{part}: {rows.total} activations of width {rows.width}")


def train(name: str, seed: int, seconds: float) -> None:
    folder = RUNS / f"{name}_{seed}"
    kept, count = folder / "kept", folder / "steps"
    rows = open_rows(ACTIVATIONS / "train")
    torch.manual_seed(seed)
    side = SIDES[name](rows.width, D_SAE, K)
    done = int(count.read_text()) if count.exists() else 0
    if done:
        side.go_on(kept)
    end = time.monotonic() + seconds
    for batch in rows.batches(BATCH, seed=seed, start=done):
        if done == STEPS or time.monotonic() > end:
            break
        side.step(batch)
        done += 1
        if done % MEASURED_EVERY == 0:
            side.save(folder / f"sae_{done}")
    folder.mkdir(parents=True, exist_ok=True)
    side.keep(kept)
    count.write_text(str(done))
    print(f"{name}, seed {seed}: {done} of {STEPS} steps")


def figures() -> None:
    """Of each seed, after as many steps as all three have done."""
    held_out = open_rows(ACTIVATIONS / "held_out")
    _, x = held_out.split(held_out.total - 1)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for seed in (0, 1):
        for steps in range(MEASURED_EVERY, STEPS + 1, MEASURED_EVERY):
            paths = {name: RUNS / f"{name}_{seed}" / f"sae_{steps}" for name in SIDES}
            if all(path.exists() for path in paths.values()):
                found[f"seed {seed}, {steps} steps"] = {
                    name: quality(LOAD[name](path), x) for name, path in paths.items()
                }
    settings = {"layer": LAYER, "d_sae": D_SAE, "k": K, "batch": BATCH}
    tokens = {"train": open_rows(ACTIVATIONS / "train").total, "held out": len(x)}
    write("sae_smollm2", {"settings": settings, "tokens": tokens, "held-out": found})


def quality(sae: SparseAutoencoder, x: Tensor) -> dict[str, float]:
    metrics = evaluate(sae, x.split(BATCH))
    return {key: round(getattr(metrics, key), 5) for key in ("fvu", "l0", "cosine", "dead")}


def everything() -> None:
    for seed in (0, 1):
        for name in SIDES:
            train(name, seed, float("inf"))
    figures()


if __name__ == "__main__":
    torch.set_num_threads(2)
    verb, *rest = sys.argv[1:]
    if verb == "train":
        train(rest[0], int(rest[1]), float(rest[2]) if len(rest) > 2 else float("inf"))
    else:
        {"harvest": gather, "figures": figures, "all": everything}[verb]()
