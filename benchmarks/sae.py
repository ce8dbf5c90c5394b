"""A training step of a sparse autoencoder: the sparse path against the dense one.

The claim: with few active latents a step on the CPU takes a fraction of the time, whatever the
kind. ``python benchmarks/sae.py KIND`` trains one autoencoder for some steps and sets its L0 to
the target; from there the same state takes steps on both paths, alternately, with equal losses.
``python benchmarks/sae.py density`` shows how far the sparse path stays ahead.
"""

import copy
import sys
from dataclasses import replace

import torch

from harness import alternate, write
from sparsact.sae import SAEConfig, SAETrainConfig, SAETrainer, SparseAutoencoder
from sparsact.sae.training import sae_trainer as train_module

D_IN, D_SAE, K, BATCH, STEPS = 576, 8192, 32, 2048, 20
TARGETS = {"relu": 64.0, "jumprelu": 64.0}  # L0 of the kinds that have no k
TRAINING = SAETrainConfig(normalize_input=False, lr_warmup_steps=0, sparsity_warmup_steps=0)


def batch() -> torch.Tensor:
    """Rows that are sums of 16 of 4096 directions, and noise."""
    generator = torch.Generator().manual_seed(1)
    directions = torch.randn(4096, D_IN, generator=generator) / D_IN**0.5
    which = torch.randint(4096, (BATCH, 16), generator=generator)
    noise = 0.02 * torch.randn(BATCH, D_IN, generator=generator)
    return 6 * torch.nn.functional.embedding_bag(which, directions, mode="sum") + noise


def start(kind: str, k: int) -> SparseAutoencoder:
    """At the wanted density: from L0 = 4096 the first steps would all be dense."""
    torch.manual_seed(0)
    sae = SparseAutoencoder(SAEConfig(D_IN, D_SAE, kind, k=k))
    pre = sae.encoder(batch()).detach()
    level = pre.flatten()[:: len(pre)].quantile(1 - k / D_SAE)
    if kind == "relu":
        sae.encoder.bias.data.sub_(level)
    elif kind == "jumprelu":
        sae.activation.lambd.data.fill_(level.item())
    return sae


def both(trainer: SAETrainer) -> dict[str, SAETrainer]:
    """The same state on either path, with a rate that keeps the density where it is."""
    sides = {}
    for name in ("sparse", "dense"):
        config = replace(trainer.config, sparse=name == "sparse", lr=1e-6, target_l0=None)
        sides[name] = SAETrainer(copy.deepcopy(trainer.sae), config)
        sides[name].load_state_dict(trainer.state_dict())
    return sides


def measure(trainer: SAETrainer, x: torch.Tensor, repeats: int = 15) -> dict[str, object]:
    sides = both(trainer)
    stats = {name: side.step(x) for name, side in sides.items()}
    gap = abs(stats["sparse"].loss - stats["dense"].loss)
    assert gap <= 1e-4 * stats["dense"].loss, stats
    ms = alternate({name: lambda s=side: s.step(x) for name, side in sides.items()}, repeats)
    ratio = round(ms["dense"] / ms["sparse"], 2)
    return {"l0": round(stats["sparse"].l0, 1), "ms": ms, "ratio": ratio}


def trained(kind: str) -> dict[str, object]:
    x, target = batch(), TARGETS.get(kind)
    config = replace(TRAINING, target_l0=target)
    trainer = SAETrainer(start(kind, int(target or K)), config)
    stats = [trainer.step(x) for _ in range(STEPS)]
    if target is not None:
        trainer.reach_target(x)
    return {"trained": {"steps": STEPS, "fvu": round(stats[-1].fvu, 3), **measure(trainer, x)}}


def density() -> dict[str, object]:
    train_module.SPARSE_BELOW = 1.0
    config = replace(TRAINING, coefficient=0.0)
    return {
        f"{kind}, k={k}": measure(SAETrainer(start(kind, k), config), batch(), repeats=5)
        for kind in ("topk", "relu", "jumprelu")
        for k in (128, 256, 512, 1024)
    }


if __name__ == "__main__":
    torch.set_num_threads(2)
    wanted = sys.argv[1]
    write(f"sae_{wanted}", density() if wanted == "density" else trained(wanted))
