"""Quality on a real model: layer 15 of SmolLM2, three libraries after equally many steps.

    python scripts/fetch_models.py && python scripts/gather_text.py
    python benchmarks/sae_smollm2.py harvest
    python benchmarks/sae_smollm2.py train ours 0       # or sparsify, SAELens
    python benchmarks/sae_smollm2.py figures
    python benchmarks/sae_smollm2.py all                # train and figures, for two seeds

The claim: with equal steps, batches, learning rate and k, our autoencoder explains held-out
activations at least as well. All libraries read the same batches in the same order; what a library
does before its first step is its own choice. One evaluator measures all three, from the files that
the libraries wrote. The third argument of `train` limits its seconds; the same command continues
where it stopped. The tiny size uses only the libraries that are installed.
"""

import time
from pathlib import Path

import torch
from torch import Tensor

from harness import ROOT, Run, main
from sae_sides import LOAD, SIDES, installed, require_all
from sparsact.sae import SparseAutoencoder, evaluate, harvest, open_rows
from sparsact.text import load_language_model, read_tokens

LAYER, D_SAE, K, BATCH = "model.layers.15", 8192, 32, 2048
TINY_LAYER, TINY_D_SAE, TINY_K, TINY_BATCH = "model.layers.0", 64, 2, 64
STEPS, MEASURED_EVERY = 300, 100
SEEDS = (0, 1)


def activations(run: Run) -> Path:
    """Return the directory of the activations."""
    return run.size(run.models, run.results) / "activations"


def training_runs(run: Run) -> Path:
    """Return the directory of the trained autoencoders."""
    return run.size(ROOT / "runs", run.results) / "smollm2"


def chosen_sides(run: Run) -> list[str]:
    """Choose all sides; for the tiny size, those that are installed."""
    names = run.size(list(SIDES), installed())
    require_all(names)
    return names


def gather(run: Run) -> None:
    """Write the activations in shards; an interrupted run continues."""
    model, tokenizer = load_language_model(str(run.models / "smollm2"))
    layer = run.size(LAYER, TINY_LAYER)
    for part in ("held_out", "train"):
        tokens = read_tokens(tokenizer, [run.models / "docstrings" / f"{part}.txt"])
        folder = activations(run) / part
        rows = harvest(model, layer, tokens, folder, batch_rows=4, shard_rows=16)
        print(f"{part}: {rows.total} activations of width {rows.width}")


def train(run: Run, name: str = "ours", seed: int = 0, seconds: float = float("inf")) -> None:
    require_all([name])
    folder = training_runs(run) / f"{name}_{seed}"
    checkpoint, steps_file = folder / "kept", folder / "steps"
    rows = open_rows(activations(run) / "train")
    torch.manual_seed(seed)
    side = SIDES[name](rows.width, run.size(D_SAE, TINY_D_SAE), run.size(K, TINY_K))
    steps, measured_every = run.size((STEPS, MEASURED_EVERY), (2, 1))
    done = int(steps_file.read_text()) if steps_file.exists() else 0
    if done:
        side.load_checkpoint(checkpoint)
    end = time.monotonic() + seconds
    for batch in rows.batches(run.size(BATCH, TINY_BATCH), seed=seed, start=done):
        if done == steps or time.monotonic() > end:
            break
        side.step(batch)
        done += 1
        if done % measured_every == 0:
            side.save(folder / f"sae_{done}")
    folder.mkdir(parents=True, exist_ok=True)
    side.save_checkpoint(checkpoint)
    steps_file.write_text(str(done))
    print(f"{name}, seed {seed}: {done} of {steps} steps")


def figures(run: Run) -> None:
    """Evaluate each seed after every number of steps that all libraries have reached."""
    held_out = open_rows(activations(run) / "held_out")
    _, x = held_out.split(held_out.total - 1)
    steps, measured_every = run.size((STEPS, MEASURED_EVERY), (2, 1))
    batch = run.size(BATCH, TINY_BATCH)
    results: dict[str, dict[str, dict[str, float]]] = {}
    for seed in SEEDS:
        for done in range(measured_every, steps + 1, measured_every):
            folders = {name: training_runs(run) / f"{name}_{seed}" for name in chosen_sides(run)}
            paths = {name: folder / f"sae_{done}" for name, folder in folders.items()}
            if all(path.exists() for path in paths.values()):
                results[f"seed {seed}, {done} steps"] = {
                    name: quality(LOAD[name](path), x, batch) for name, path in paths.items()
                }
    settings = {"layer": LAYER, "d_sae": D_SAE, "k": K, "batch": BATCH}
    tokens = {"train": open_rows(activations(run) / "train").total, "held out": len(x)}
    run.write("sae_smollm2", {"settings": settings, "tokens": tokens, "held-out": results})


def quality(sae: SparseAutoencoder, x: Tensor, batch: int) -> dict[str, float]:
    metrics = evaluate(sae, x.split(batch))
    return {key: round(getattr(metrics, key), 5) for key in ("fvu", "l0", "cosine", "silent")}


def train_and_evaluate(run: Run) -> None:
    for seed in SEEDS:
        for name in chosen_sides(run):
            train(run, name, seed)
    figures(run)


if __name__ == "__main__":
    parts = {"harvest": gather, "train": train, "figures": figures, "all": train_and_evaluate}
    main(__doc__, parts, threads=2)
