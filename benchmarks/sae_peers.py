"""A training step of a top-k autoencoder: ours, sparsify's and SAELens', on two threads.

    python benchmarks/sae_peers.py steps            # time of a step; checks equal results
    python benchmarks/sae_peers.py memory ours      # peak memory, in a process for each side
    python benchmarks/sae_peers.py width 4096 …     # time against the size of the dictionary
    python benchmarks/sae_peers.py k 8 16 …         # time against the number of active latents
    python benchmarks/sae_peers.py plot

``make bench-peers`` runs them in an environment with all three libraries. The activations come from
a layer of a language model; ``sae_smollm2.py harvest`` writes them. The tiny size uses random rows,
and only the libraries that are installed.
"""

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness import ROOT, Run, main
from sae_sides import OWN, SIDES, Side, installed, require_all
from sae_smollm2 import activations
from sparsact.sae import open_rows

D_SAE, K, BATCH = 8192, 32, 2048
TINY_D_SAE, TINY_K = 64, 2


def chosen_sides(run: Run) -> list[str]:
    """Choose all sides; for the tiny size, those that are installed."""
    names = run.size(list(SIDES), installed())
    require_all(names)
    return names


def batches(run: Run, count: int) -> list[Tensor]:
    if run.tiny:
        return [torch.randn(64, 8) for _ in range(count)]
    rows = open_rows(activations(run) / "train")
    stream = rows.batches(BATCH, buffer_rows=2 * count * BATCH)
    return [next(stream) for _ in range(count)]


def sides(d_sae: int, k: int, batch: Tensor, names: list[str]) -> dict[str, Side]:
    """Make all sides with the same weights."""
    d_in = batch.shape[1]
    decoder = torch.randn(d_sae, d_in, generator=torch.Generator().manual_seed(0))
    decoder /= torch.linalg.vector_norm(decoder, dim=1, keepdim=True)
    made: dict[str, Side] = {}
    for name in names:
        made[name] = SIDES[name](d_in, d_sae, k)
        made[name].step(batch)  # sets up what the first step creates
        made[name].start_at(decoder, decoder, batch.mean(0))
    return made


def time_steps(
    run: Run, sides: dict[str, Side], data: list[Tensor], repeats: int = 15, warmup: int = 3
) -> dict[str, float]:
    """Measure the median milliseconds of a step; every step has another batch."""
    place = dict.fromkeys(sides, 0)

    def step(name: str) -> None:
        place[name] += 1
        sides[name].step(data[place[name] % len(data)])

    steps = {name: functools.partial(step, name) for name in sides}
    return run.alternate(steps, repeats, warmup)


def ratios(ms: dict[str, float]) -> dict[str, float]:
    others = [name for name in ms if name not in OWN]
    pairs = itertools.product(others, OWN)
    return {f"{other} / {own}": round(ms[other] / ms[own], 2) for other, own in pairs}


def steps(run: Run) -> None:
    names = chosen_sides(run)
    data = batches(run, 8)
    made = sides(run.size(D_SAE, TINY_D_SAE), run.size(K, TINY_K), data[0], names)
    fvu = {name: side.fvu(data[1]) for name, side in made.items()}
    for name, value in fvu.items():
        assert abs(value - fvu["ours"]) <= 1e-4 * fvu["ours"], (name, fvu)
    losses = [made[name].step(data[1]) for name in OWN]
    assert abs(losses[0] - losses[1]) <= 1e-3 * losses[0], losses
    ms = time_steps(run, made, data)
    results = {"fvu at the same weights": fvu, "loss by selection": losses, "ms": ms, **ratios(ms)}
    run.write("sae_peers_steps", results)


def memory(run: Run, name: str = "ours") -> None:
    """Measure the peak of the resident memory in three steps of a side, above two baselines.

    Run it in a new process for each side; the file keeps the results of the other sides.
    """
    require_all([name])
    data = batches(run, 3)
    d_in, d_sae = data[0].shape[1], run.size(D_SAE, TINY_D_SAE)
    small = SIDES[name](d_in, 64, 4)
    for batch in data:
        small.step(batch[:64])  # loads libraries and compiles kernels
    loaded = resident("VmRSS")
    side = SIDES[name](d_in, d_sae, run.size(K, TINY_K))
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    for batch in data:
        side.step(batch)
    weights = 4 * (2 * d_in * d_sae + d_in + d_sae)
    state = 3 * weights / 1e6  # the weights and both moments of Adam, kept between steps
    training = resident("VmHWM") - loaded
    megabytes = earlier_results(run, "memory").get("MB", {})
    megabytes[name] = {"training": round(training, 1), "step alone": round(training - state, 1)}
    run.write("sae_peers_memory", {"MB": megabytes, **shares(megabytes)})


def shares(megabytes: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Divide our memory by that of the other measured sides."""
    ours = megabytes.get("ours", {})
    return {
        f"ours / {name}": {key: round(ours[key] / other[key], 3) for key in ours}
        for name, other in megabytes.items()
        if name != "ours"
    }


def earlier_results(run: Run, name: str) -> dict[str, Any]:
    """Return what earlier runs of the same part have written."""
    file = f"sae_peers_{name}"
    exists = (run.results / f"{file}.json").exists()
    return dict(run.read(file)["results"]) if exists else {}


def resident(field: str) -> float:
    """Read a memory field of this process, in megabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024 / 1e6


def width(run: Run, *points: int) -> None:
    curve(run, "width", points or run.size((4096, 8192, 16384, 32768, 65536), (32,)))


def active_latents(run: Run, *points: int) -> None:
    curve(run, "k", points or run.size((8, 16, 32, 64, 128, 256), (4,)))


def curve(run: Run, name: str, points: Sequence[int]) -> None:
    """Add points to a curve; the file keeps those of other runs."""
    names = chosen_sides(run)
    results = earlier_results(run, name)
    data = batches(run, 4)
    for point in points:
        fixed = run.size((D_SAE, K), (TINY_D_SAE, TINY_K))
        d_sae, k = (point, fixed[1]) if name == "width" else (fixed[0], point)
        made = sides(d_sae, k, data[0], names)
        ms = time_steps(run, made, data, repeats=5 if d_sae <= D_SAE else 3, warmup=1)
        results[str(point)] = {"ms": ms, **ratios(ms)}
        ordered = sorted(results.items(), key=lambda item: int(item[0]))
        run.write(f"sae_peers_{name}", dict(ordered))


def plot(run: Run) -> None:
    """Draw both curves."""
    import matplotlib.pyplot as plt

    labels = {"width": "latents in the dictionary", "k": "active latents (k)"}
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
    for axis, (name, label) in zip(axes, labels.items(), strict=True):
        data = run.read(f"sae_peers_{name}")
        points = [int(point) for point in data["results"]]
        for side in chosen_sides(run) if run.tiny else SIDES:
            seconds = [result["ms"][side] / 1e3 for result in data["results"].values()]
            axis.plot(points, seconds, marker="o", markersize=3, label=side)
        axis.set(xscale="log", yscale="log", xlabel=label)
        axis.set_xticks(points, [str(point) for point in points])
        axis.minorticks_off()
        axis.grid(color="0.9")
    axes[0].set_ylabel("seconds per step")
    axes[0].legend(frameon=False)
    environment = data["environment"]
    figure.suptitle(
        f"training step of a top-k autoencoder, batch {BATCH}, {environment['threads']} threads, "
        f"{environment['cpu']}"
    )
    figure.savefig(run.size(ROOT / "docs", run.results) / "sae_peers.png", dpi=150)


if __name__ == "__main__":
    main(
        __doc__,
        {"steps": steps, "memory": memory, "width": width, "k": active_latents, "plot": plot},
        threads=2,
    )
