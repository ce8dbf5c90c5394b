"""Training with latents spread over processes; torchrun runs this for test_spread_latents.py.

The streams of several processes are compared with that of one in the same start, to save time.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist

from sparsact.sae import (
    LatentShardedTrainer,
    SAEConfig,
    SAETrainConfig,
    SparseAutoencoder,
    pack_tokens,
    stream_layers,
)
from sparsact.sae.training.joined_processes import make_accelerator

KINDS = ("topk", "batch_topk", "relu", "jumprelu")
STEPS = 14


def data():
    """Sparse sums of directions, off centre."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(24, 16, generator=generator), dim=1)
    active = torch.rand(900, 24, generator=generator) < 0.1
    return 5 * (torch.rand(900, 24, generator=generator) * active) @ directions + 2


def start(kind):
    torch.manual_seed(1)
    sae = SparseAutoencoder(SAEConfig(16, 51, kind, k=4))  # 51: the parts differ in size
    sae.encoder.bias.data[5:20] = -1e3  # dead, unequally in the parts
    return sae


def settings(kind):
    target = None if kind in ("topk", "batch_topk") else 6.0
    return SAETrainConfig(
        lr=2e-3,
        lr_warmup_steps=3,
        sparsity_warmup_steps=3,
        target_l0=target,
        dead_after=100,
        aux_k=8,
    )


def batches():
    rows = data()
    return [rows[at % 800 : at % 800 + 64] for at in range(0, 64 * STEPS, 64)]


def trained(kind):
    trainer = LatentShardedTrainer(start(kind).config, settings(kind), start=start(kind))
    trainer.schedule.steps = STEPS
    losses = [trainer.step(batch) for batch in batches()]
    own = sum(parameter.numel() for parameter in trainer.part.parameters())
    return {
        "loss": [stats.loss for stats in losses],
        "l0": [stats.l0 for stats in losses],
        "norm": [stats.gradient_norm for stats in losses],
        "dead": [stats.dead for stats in losses],
        "sae": trainer.autoencoder().state_dict(),
        "own": own,
    }


def streamed(accelerator=None):
    """Batches of a stream of two layers, and how many rows of text this process ran."""
    from tiny_language import llama

    model = llama()
    rows_read = []
    model.model.embed_tokens.register_forward_hook(lambda m, x, y: rows_read.append(len(y)))
    ids = torch.randint(2, 16, (300,), generator=torch.Generator().manual_seed(0)).tolist()
    tokens = pack_tokens(ids, 10, bos=0)
    several = stream_layers(model, "model.layers.*", tokens, batch_rows=2, accelerator=accelerator)
    del rows_read[:]  # of the widths
    rank, processes = 0, 1
    if accelerator is not None:
        rank, processes = accelerator.process_index, accelerator.num_processes
    names = ("model.layers.0", "model.layers.1")
    dealt = [several[n].batches(64, buffer_rows=130, rank=rank, processes=processes) for n in names]
    return [[next(one) for one in dealt] for _ in range(4)], sum(rows_read)


def main(folder):
    accelerator = make_accelerator()
    found = {kind: trained(kind) for kind in KINDS}
    found["stream"] = streamed(accelerator)
    torch.save(found, folder / f"rank{dist.get_rank()}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[2]))
    main(Path(sys.argv[1]))
