"""A training step of a sparse autoencoder: the sparse path against the dense one.

The claim: with few active latents a step on the CPU takes a fraction of the time, whatever the
kind. Both sides train the same autoencoder on the same batches; their losses are checked equal.
"""

import sys
from dataclasses import replace

import torch

from harness import alternate, write
from sparsact.sae import SAEConfig, SAETrainConfig, SAETrainer, SparseAutoencoder
from sparsact.sae import train as train_module

D_IN, D_SAE, K, BATCH = 576, 8192, 32, 2048


def trainer(kind: str, k: int, sparse: bool) -> SAETrainer:
    torch.manual_seed(0)
    sae = SparseAutoencoder(SAEConfig(D_IN, D_SAE, kind, k=k))
    if kind in ("relu", "jumprelu"):  # as trained: few pass
        pre = sae.encoder(batch()).detach()
        level = pre.flatten()[:: len(pre)].quantile(1 - k / D_SAE)
        if kind == "relu":
            sae.encoder.bias.data.sub_(level)
        else:
            sae.activation.lambd.data.fill_(level.item())
    config = SAETrainConfig(sparse=sparse, normalize_input=False, coefficient=0.0, lr=1e-5)
    return SAETrainer(sae, replace(config, sparsity_warmup_steps=0))


def batch() -> torch.Tensor:
    return torch.randn(BATCH, D_IN, generator=torch.Generator().manual_seed(1))


def measure(kind: str, k: int = K) -> dict[str, object]:
    x = batch()
    ours, dense = trainer(kind, k, True), trainer(kind, k, False)
    first = [(ours.step(x), dense.step(x)) for _ in range(3)][-1]
    assert abs(first[0].loss - first[1].loss) <= 1e-4 * first[1].loss, first
    ms = alternate({"sparse": lambda: ours.step(x), "dense": lambda: dense.step(x)}, repeats=15)
    return {"l0": round(first[0].l0, 1), "ms": ms, "ratio": round(ms["dense"] / ms["sparse"], 2)}


def main() -> None:
    kinds = sys.argv[1:] or ["topk", "batch_topk", "relu", "jumprelu"]
    results = {f"{kind}, k={K}": measure(kind) for kind in kinds}
    share = train_module.SPARSE_BELOW
    train_module.SPARSE_BELOW = 1.0  # how far the sparse path stays ahead
    results |= {f"relu, k={k}": measure("relu", k) for k in (128, 256, 512) if "relu" in kinds}
    train_module.SPARSE_BELOW = share
    write("sae", results)


if __name__ == "__main__":
    main()
