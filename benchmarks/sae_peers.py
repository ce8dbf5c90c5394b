"""A training step of a top-k autoencoder: ours against sparsify's and SAELens', on two threads.

    python benchmarks/sae_peers.py steps            # the step, and that all compute the same
    python benchmarks/sae_peers.py memory ours      # its peak, a process for each side
    python benchmarks/sae_peers.py width 4096 …     # how it grows with the dictionary
    python benchmarks/sae_peers.py k 8 16 …         # and with the number of active latents
    python benchmarks/sae_peers.py plot

``make bench-peers`` runs them in an environment that has all three. The activations are real:
those of a layer of a language model, which ``sae_smollm2.py harvest`` writes.
"""

import functools
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness import RESULTS, alternate, write
from sae_sides import OWN, SIDES, Side
from sae_smollm2 import ACTIVATIONS, ROOT
from sparsact.sae import open_rows

D_SAE, K, BATCH = 8192, 32, 2048


def batches(number: int) -> list[Tensor]:
    stream = open_rows(ACTIVATIONS / "train").batches(BATCH, buffer_rows=2 * number * BATCH)
    return [next(stream) for _ in range(number)]


def sides(d_sae: int, k: int, batch: Tensor, names: list[str]) -> dict[str, Side]:
    """The libraries at the same weights."""
    d_in = batch.shape[1]
    decoder = torch.randn(d_sae, d_in, generator=torch.Generator().manual_seed(0))
    decoder /= torch.linalg.vector_norm(decoder, dim=1, keepdim=True)
    made: dict[str, Side] = {}
    for name in names:
        made[name] = SIDES[name](d_in, d_sae, k)
        made[name].step(batch)  # what a first step sets up
        made[name].start_at(decoder, decoder, batch.mean(0))
    return made


def timed(
    sides: dict[str, Side], data: list[Tensor], repeats: int = 15, warmup: int = 3
) -> dict[str, float]:
    """Median milliseconds of a step, each on another batch."""
    place = dict.fromkeys(sides, 0)

    def step(name: str) -> None:
        place[name] += 1
        sides[name].step(data[place[name] % len(data)])

    return alternate({name: functools.partial(step, name) for name in sides}, repeats, warmup)


def ratios(ms: dict[str, float]) -> dict[str, float]:
    others = [name for name in ms if name not in OWN]
    pairs = itertools.product(others, OWN)
    return {f"{other} / {own}": round(ms[other] / ms[own], 2) for other, own in pairs}


def steps() -> None:
    data = batches(8)
    made = sides(D_SAE, K, data[0], list(SIDES))
    fvu = {name: side.fvu(data[1]) for name, side in made.items()}
    for name, found in fvu.items():
        assert abs(found - fvu["ours"]) <= 1e-4 * fvu["ours"], (name, fvu)
    losses = [made[name].step(data[1]) for name in OWN]
    assert abs(losses[0] - losses[1]) <= 1e-3 * losses[0], losses
    ms = timed(made, data)
    found = {"fvu at the same weights": fvu, "loss by selection": losses, "ms": ms, **ratios(ms)}
    write("sae_peers_steps", found)


def memory(name: str) -> None:
    """The peak of the resident memory in three steps of a side, above two baselines.

    For a process of its own; the file keeps the other sides' figures.
    """
    data = batches(3)
    d_in = data[0].shape[1]
    small = SIDES[name](d_in, 64, 4)
    for batch in data:
        small.step(batch[:64])  # libraries are loaded and kernels compiled
    loaded = resident("VmRSS")
    side = SIDES[name](d_in, D_SAE, K)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    for batch in data:
        side.step(batch)
    weights = 4 * (2 * d_in * D_SAE + d_in + D_SAE)
    state = 3 * weights / 1e6  # the weights and both moments of Adam, kept between steps
    training = resident("VmHWM") - loaded
    found = results_of("memory").get("MB", {})
    found[name] = {"training": round(training, 1), "step alone": round(training - state, 1)}
    write("sae_peers_memory", {"MB": found, **shares(found)})


def shares(found: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Our memory over that of the sides measured so far."""
    ours = found.get("ours", {})
    return {
        f"ours / {name}": {key: round(ours[key] / other[key], 3) for key in ours}
        for name, other in found.items()
        if name != "ours"
    }


def results_of(name: str) -> dict[str, Any]:
    """What earlier runs of a part that is measured piece by piece have written."""
    file = RESULTS / f"sae_peers_{name}.json"
    return json.loads(file.read_text())["results"] if file.exists() else {}


def resident(field: str) -> float:
    """Megabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024 / 1e6


def curve(name: str, points: list[int]) -> None:
    """Add points to a curve: the file keeps those of other runs."""
    found = results_of(name)
    data = batches(4)
    for point in points:
        d_sae, k = (point, K) if name == "width" else (D_SAE, point)
        made = sides(d_sae, k, data[0], list(SIDES))
        ms = timed(made, data, repeats=5 if d_sae <= D_SAE else 3, warmup=1)
        found[str(point)] = {"ms": ms, **ratios(ms)}
        write(f"sae_peers_{name}", dict(sorted(found.items(), key=lambda item: int(item[0]))))


def plot() -> None:
    """Both curves, as one picture."""
    import matplotlib.pyplot as plt

    labels = {"width": "latents in the dictionary", "k": "active latents (k)"}
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
    for axis, (name, label) in zip(axes, labels.items(), strict=True):
        data = json.loads((RESULTS / f"sae_peers_{name}.json").read_text())
        points = [int(point) for point in data["results"]]
        for side in SIDES:
            seconds = [found["ms"][side] / 1e3 for found in data["results"].values()]
            axis.plot(points, seconds, marker="o", markersize=3, label=side)
        axis.set(xscale="log", yscale="log", xlabel=label)
        axis.set_xticks(points, [str(point) for point in points])
        axis.minorticks_off()
        axis.grid(color="0.9")
    axes[0].set_ylabel("seconds a step")
    axes[0].legend(frameon=False)
    environment = data["environment"]
    figure.suptitle(
        f"training step of a top-k autoencoder, batch {BATCH}, {environment['threads']} threads, "
        f"{environment['cpu']}"
    )
    figure.savefig(ROOT / "docs" / "sae_peers.png", dpi=150)


def main(verb: str, *rest: str) -> None:
    if verb in ("width", "k"):
        curve(verb, [int(point) for point in rest])
    elif verb == "memory":
        memory(rest[0])
    else:
        {"steps": steps, "plot": plot}[verb]()


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(2)
    main(*sys.argv[1:])
