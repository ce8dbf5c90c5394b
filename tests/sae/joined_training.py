"""Training in one of several processes; run by torchrun from test_processes.py."""

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from sparsact.functional import batch_topk
from sparsact.sae import (
    SAEConfig,
    SAETrainConfig,
    SAETrainer,
    SparseAutoencoder,
    evaluate,
    harvest,
    load_checkpoint,
    open_rows,
    pack_tokens,
    save_checkpoint,
    save_sae,
)
from sparsact.sae.training.sharding import own_rows

KINDS = ("relu", "topk", "batch_topk", "jumprelu", "softshrink", "gated")
STEPS = 24


def data() -> torch.Tensor:
    """Rows of which the later ones are off centre, so that parts of a batch differ."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(24, 16, generator=generator), dim=1)
    active = torch.rand(3000, 24, generator=generator) < 0.1
    return 5 * (torch.rand(3000, 24, generator=generator) * active) @ directions + 2


def trainer(kind: str, shard: bool = False, *, d_sae: int = 49, **changes: Any) -> SAETrainer:
    config = {"lr": 2e-3, "lr_warmup_steps": 4, "sparsity_warmup_steps": 4, "dead_after": 500}
    config |= {"target_l0": 4.0 if kind in ("topk", "batch_topk") else 6.0, "aux_k": 8}
    sae = SparseAutoencoder(SAEConfig(16, d_sae, kind, k=4))  # 49: the shards are of two sizes
    if kind == "softshrink":  # dead from the start
        sae.activation.lambd.data[:9] = 1e3
    else:
        sae.encoder.bias.data[:9] = -1e3
    return SAETrainer(sae, SAETrainConfig(shard=shard, **{**config, **changes}))


def trained(kind: str, rank: int, size: int, shard: bool, **changes: Any) -> dict[str, Any]:
    """What a training shows at each step, and the autoencoder and its quality in the end."""
    torch.manual_seed(0 if shard or size == 1 else rank)  # the first process's weights count
    made = trainer(kind, shard, **changes)
    rows = open_rows(data()[:2600])
    batches = rows.batches(256, rank=rank, processes=size)
    stats = [vars(step) for step in made.run(batches, STEPS)]
    made.reach_target(data()[2600:])
    sae = made.autoencoder()
    quality = evaluate(sae, [data()[2600:]])
    return {
        "stats": {name: [step[name] for step in stats] for name in stats[0]},
        "sae": {name: value.clone() for name, value in sae.state_dict().items()},
        "l0": quality.l0,
        "fvu": quality.fvu,
    }


def results(rank: int, size: int, shard: bool = False) -> dict[str, Any]:
    found = {kind: trained(kind, rank, size, shard) for kind in KINDS}
    found["resampled"] = trained("relu", rank, size, shard, resample_every=10, aux_k=0)
    found["bf16"] = trained("jumprelu", rank, size, shard, mixed_precision="bf16", sparse=False)
    for kind in ("topk", "softshrink"):  # so wide that the compiled kernels run
        found[f"wide {kind}"] = trained(kind, rank, size, shard, d_sae=1024)
    return found


def share() -> dict[str, float]:
    """Of the parameters and the optimizer's moments, what this process holds between steps."""
    made = trainer("topk", shard=True, d_sae=48)
    made.step(data()[:64])
    tensors = [*made.sae.parameters()]
    for entry in made.optimizer.state_dict()["state"].values():
        tensors += [entry["exp_avg"], entry["exp_avg_sq"]]
    return {"share": sum(own_rows(t).numel() for t in tensors) / sum(t.numel() for t in tensors)}


def saved(folder: Path, rank: int, size: int, shard: bool) -> dict[str, Any]:
    """Train half, save, load into a new trainer, train on; and save the autoencoder."""
    rows = open_rows(data())
    losses = []
    for start in (0, 12):
        torch.manual_seed(start)
        made = trainer("jumprelu", shard)
        if start:
            load_checkpoint(made, folder / "checkpoint")
        batches = rows.batches(256, rank=rank, processes=size, start=made.steps)
        losses += [step.loss for step in made.run(batches, start + 12)]
        save_checkpoint(made, folder / "checkpoint")
        made.accelerator.wait_for_everyone()
    sae = made.autoencoder()
    if rank == 0:
        save_sae(sae, folder / "sae")
    return {"losses": losses}


class Model(torch.nn.Module):
    """Says how often it was called."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = torch.nn.Embedding(50, 6)
        self.calls = 0

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.embed(input_ids)


def harvested(folder: Path, accelerator: Any = None) -> dict[str, Any]:
    """The activations of five shards, and the forwards that this process made for them."""
    model = Model()
    tokens = pack_tokens(range(1, 41), 8)
    rows = harvest(
        model, "embed", tokens, folder, batch_rows=1, shard_rows=1, accelerator=accelerator
    )
    found = torch.cat([shard.read() for shard in rows.shards])
    return {"activations": found, "calls": model.calls}


def selected(rank: int, size: int) -> dict[str, torch.Tensor]:
    """What a joined batch top-k keeps of this process's rows; all magnitudes are distinct."""
    generator = torch.Generator().manual_seed(0)
    x = (torch.randperm(96, generator=generator) - 47.75).view(8, 12)  # exact in bfloat16
    mask = torch.rand(8, 12, generator=generator) < 0.5
    mask[5:] = False
    found = {}
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        for by in ("value", "magnitude"):
            for k in (0, 2, 12):
                for chosen in (None, mask):
                    part = None if chosen is None else chosen.chunk(size)[rank]
                    kept = batch_topk(
                        x.to(dtype).chunk(size)[rank], k, by=by, mask=part, joined=True
                    )
                    found[f"{dtype} {by} {k} {chosen is None}"] = kept
    return found


def mistakes(rank: int, size: int) -> dict[str, str]:
    """What every process says about a mistake that one of them makes."""
    found = {}
    for name, batch in {
        "NaN": torch.full((8, 16), torch.nan if rank else 1.0),
        "sizes": torch.ones(8 + rank, 16),
    }.items():
        try:
            trainer("topk").step(batch)
        except ValueError as error:
            found[name] = str(error)
    return found


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    accelerator = trainer("topk").accelerator  # starts the processes' group
    rank, size = dist.get_rank(), dist.get_world_size()
    for name, shard in (("ddp", False), ("fsdp", True)):
        (folder / name).mkdir(exist_ok=True)
        torch.save(results(rank, size, shard), folder / name / f"{rank}.pt")
        torch.save(saved(folder / name, rank, size, shard), folder / name / f"saved{rank}.pt")
    torch.save(harvested(folder / "activations", accelerator), folder / f"harvested{rank}.pt")
    torch.save(selected(rank, size), folder / f"selected{rank}.pt")
    torch.save(share(), folder / f"share{rank}.pt")
    torch.save(mistakes(rank, size), folder / f"mistakes{rank}.pt")
    dist.destroy_process_group()
