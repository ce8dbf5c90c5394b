"""What a training step costs for each kind, and how near it is to what the machine can do.

The claim: a step of batch_topk, jumprelu and gated takes at most 1.5 times as long as that of topk,
at the same number of active latents. ``python benchmarks/sae_kinds.py kinds`` trains each kind for
some steps at its target, and then measures the steps of all kinds alternately. ``floor`` counts the
multiply-adds and the bytes that a step of topk cannot avoid, measures how fast the machine
multiplies and copies, and compares their sum with the step. ``defaults`` trains 40, 100 and 300
steps with the default warm-up, for the FVU on held-out rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from harness import Run, main
from sparsact.sae import SAEConfig, SAETrainConfig, SAETrainer, SparseAutoencoder, evaluate

KINDS = ("topk", "batch_topk", "jumprelu", "gated", "relu")


@dataclass(frozen=True)
class Sizes:
    d_in: int = 576
    d_sae: int = 8192
    batch: int = 2048
    k: int = 32
    warmup: int = 400
    lengths: tuple[int, ...] = (40, 100, 300)


TINY = Sizes(d_in=8, d_sae=64, batch=32, k=2, warmup=6, lengths=(3,))


def rows(sizes: Sizes) -> Iterator[Tensor]:
    """Make batches of rows that are sums of 16 directions, and noise, without end."""
    generator = torch.Generator().manual_seed(1)
    directions = torch.randn(8 * sizes.d_in, sizes.d_in, generator=generator) / sizes.d_in**0.5
    while True:
        chosen = torch.randint(len(directions), (sizes.batch, 16), generator=generator)
        noise = 0.02 * torch.randn(sizes.batch, sizes.d_in, generator=generator)
        yield 6 * torch.nn.functional.embedding_bag(chosen, directions, mode="sum") + noise


def trainer(sizes: Sizes, kind: str, **changes: object) -> SAETrainer:
    """Make the trainer of a kind, with k as the target of those that have no k."""
    torch.manual_seed(0)
    sae = SparseAutoencoder(SAEConfig(sizes.d_in, sizes.d_sae, kind, k=sizes.k))
    target = None if "topk" in kind else float(sizes.k)
    return SAETrainer(sae, SAETrainConfig(lr=1e-3, target_l0=target, **changes))


def kinds(run: Run) -> None:
    """Measure the milliseconds of a step of each kind, alternately."""
    sizes = run.size(Sizes(), TINY)
    trainers = {}
    for kind in KINDS:
        trainers[kind] = trainer(sizes, kind, sparsity_warmup_steps=sizes.warmup // 4)
        batches = rows(sizes)
        for _ in range(sizes.warmup):
            l0 = trainers[kind].step(next(batches)).l0
        print(f"{kind}: L0 {l0:.0f}")
    batch = next(rows(sizes))
    times = run.alternate({kind: lambda one=one: one.step(batch) for kind, one in trainers.items()})
    ratios = {f"{kind} / topk": times[kind] / times["topk"] for kind in KINDS}
    run.write("sae_kinds", {"ms": times, **ratios})


def floor(run: Run) -> None:
    """Compare a step of topk with what its multiply-adds and bytes take at the machine's rates."""
    sizes = run.size(Sizes(), TINY)
    weight = torch.randn(sizes.d_sae, sizes.d_in)
    batch = torch.randn(sizes.batch, sizes.d_in)
    moved = torch.empty_like(weight)
    one = trainer(sizes, "topk")
    one.step(batch)
    times = run.alternate(
        {
            "step": lambda: one.step(batch),
            "encoder product": lambda: batch @ weight.T,
            "copy of a weight": lambda: moved.copy_(weight),
        }
    )
    dense = 2 * sizes.batch * sizes.d_in * sizes.d_sae  # the encoder alone looks at all latents
    sparse = 5 * 2 * sizes.batch * sizes.d_in * sizes.k  # decoding, and four sparse gradients
    rate = dense / times["encoder product"]
    # Adam reads weight, gradient and two moments of both matrices, and writes three of them;
    # the gradient is written and read once before
    moved_bytes = 2 * (4 + 3 + 2) * 4 * weight.numel()
    bandwidth = 2 * 4 * weight.numel() / times["copy of a weight"]
    lowest = dense / rate + sparse / rate + moved_bytes / bandwidth
    figures = {
        "ms": times,
        "gigaflop of the encoder": dense / 1e9,
        "gigaflop of the active latents": sparse / 1e9,
        "gigabytes": moved_bytes / 1e9,
        "floor in ms": lowest,
        "step / floor": times["step"] / lowest,
    }
    run.write("sae_floor", figures)


def defaults(run: Run) -> None:
    """Measure held-out FVU after short runs with the default warm-up and without any."""
    sizes = run.size(Sizes(), TINY)
    found = {}
    for steps in sizes.lengths:
        for name, changes in (("default", {}), ("no warm-up", {"lr_warmup_steps": 0})):
            batches = rows(sizes)
            held_out = next(batches)
            one = trainer(sizes, "topk", **changes)
            one.fit(batches, steps)
            found[f"{steps} steps, {name}"] = evaluate(one.sae, [held_out]).fvu
    run.write("sae_defaults", found)


if __name__ == "__main__":
    main(__doc__, {"kinds": kinds, "floor": floor, "defaults": defaults})
