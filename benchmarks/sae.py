"""A training step of a sparse autoencoder: the sparse path against the dense one.

The claim: with few active latents, a step on the CPU takes a fraction of the time, for every kind.
``python benchmarks/sae.py topk`` (or ``relu``, ``jumprelu``) trains one autoencoder for some steps
and sets its L0 to the target. From there, the same state takes steps on both paths, alternately and
with equal losses. ``python benchmarks/sae.py density`` shows up to which density the sparse path is
faster.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness import Run, main
from sparsact.sae import SAEConfig, SAETrainConfig, SAETrainer, SparseAutoencoder

STEPS = 20


@dataclass(frozen=True)
class Sizes:
    d_in: int = 576
    d_sae: int = 8192
    batch: int = 2048
    directions: int = 4096
    k: int = 32
    l0: float = 64.0  # the target of the kinds that have no k
    ks: tuple[int, ...] = (128, 256, 512, 1024)  # the densities of `density`


TINY = Sizes(d_in=8, d_sae=64, batch=32, directions=16, k=2, l0=4.0, ks=(4,))
TRAINING = SAETrainConfig(normalize_input=False, lr_warmup_steps=0, sparsity_warmup_steps=0)


def rows(sizes: Sizes) -> Tensor:
    """Make rows that are sums of 16 directions, and noise."""
    generator = torch.Generator().manual_seed(1)
    directions = torch.randn(sizes.directions, sizes.d_in, generator=generator) / sizes.d_in**0.5
    chosen = torch.randint(sizes.directions, (sizes.batch, 16), generator=generator)
    noise = 0.02 * torch.randn(sizes.batch, sizes.d_in, generator=generator)
    return 6 * torch.nn.functional.embedding_bag(chosen, directions, mode="sum") + noise


def start(sizes: Sizes, kind: str, k: int) -> SparseAutoencoder:
    """Make an autoencoder at the target density: from L0 = d_sae / 2, first steps are dense."""
    torch.manual_seed(0)
    sae = SparseAutoencoder(SAEConfig(sizes.d_in, sizes.d_sae, kind, k=k))
    pre_activations = sae.encoder(rows(sizes)).detach()
    sample = pre_activations.flatten()[:: len(pre_activations)]
    threshold = sample.quantile(1 - k / sizes.d_sae)
    if kind == "relu":
        sae.encoder.bias.data.sub_(threshold)
    elif kind == "jumprelu":
        sae.activation.lambd.data.fill_(threshold.item())
    return sae


def both_paths(trainer: SAETrainer) -> dict[str, SAETrainer]:
    """Copy the state to each path, with a learning rate that keeps the density constant."""
    sides = {}
    for name in ("sparse", "dense"):
        config = replace(trainer.config, sparse=name == "sparse", lr=1e-6, target_l0=None)
        below = trainer.sparse_below
        sides[name] = SAETrainer(copy.deepcopy(trainer.sae), config, sparse_below=below)
        sides[name].load_state_dict(trainer.state_dict())
    return sides


def measure(run: Run, trainer: SAETrainer, x: Tensor, repeats: int = 15) -> dict[str, object]:
    sides = both_paths(trainer)
    stats = {name: side.step(x) for name, side in sides.items()}
    gap = abs(stats["sparse"].loss - stats["dense"].loss)
    assert gap <= 1e-4 * stats["dense"].loss, stats
    ms = run.alternate({name: lambda s=side: s.step(x) for name, side in sides.items()}, repeats)
    ratio = round(ms["dense"] / ms["sparse"], 2)
    return {"l0": round(stats["sparse"].l0, 1), "ms": ms, "ratio": ratio}


def trained(kind: str) -> Callable[[Run], None]:
    """Make the part of one kind."""

    def part(run: Run) -> None:
        sizes = run.size(Sizes(), TINY)
        x, target = rows(sizes), None if kind == "topk" else sizes.l0
        config = replace(TRAINING, target_l0=target)
        trainer = SAETrainer(start(sizes, kind, int(target or sizes.k)), config)
        steps = run.size(STEPS, 2)
        stats = [trainer.step(x) for _ in range(steps)]
        if target is not None:
            trainer.reach_target(x)
        results = {"steps": steps, "fvu": round(stats[-1].fvu, 3), **measure(run, trainer, x)}
        run.write(f"sae_{kind}", {"trained": results})

    return part


def density(run: Run) -> None:
    sizes = run.size(Sizes(), TINY)
    config = replace(TRAINING, coefficient=0.0)
    x = rows(sizes)
    results = {
        f"{kind}, k={k}": measure(
            run, SAETrainer(start(sizes, kind, k), config, sparse_below=1.0), x, repeats=5
        )
        for kind in ("topk", "relu", "jumprelu")
        for k in sizes.ks
    }
    run.write("sae_density", results)


if __name__ == "__main__":
    kinds = {kind: trained(kind) for kind in ("topk", "relu", "jumprelu")}
    main(__doc__, {**kinds, "density": density}, threads=2)
