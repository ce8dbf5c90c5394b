"""Training a top-k autoencoder with three libraries: ours, sparsify and SAELens.

The settings are the same: Adam, a constant learning rate, float32, and runs too short for latents
to count as dead. The other libraries are in the environment of ``make bench-peers``.
"""

import importlib.util
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from sparsact.sae import (
    SAEConfig,
    SAETrainConfig,
    SAETrainer,
    SparseAutoencoder,
    load_checkpoint,
    load_sae,
    load_saelens,
    load_sparsify,
    save_checkpoint,
    save_sae,
)

LR = 3e-4


class Side(Protocol):
    """Training with one library; the weights are (d_sae, d_in), for encoder and decoder."""

    def step(self, batch: Tensor) -> float:
        """Run one optimizer step.

        Returns:
            the loss that the library minimises.
        """
        ...

    def fvu(self, batch: Tensor) -> float:
        """Return the fraction of variance unexplained, with the library's own forward."""
        ...

    def start_at(self, encoder: Tensor, decoder: Tensor, center: Tensor) -> None:
        """Set these weights, with decoder rows of length 1 and no encoder bias."""
        ...

    def save(self, path: Path) -> None:
        """Save the autoencoder in the library's format."""
        ...

    def save_checkpoint(self, path: Path) -> None:
        """Save everything needed to continue."""
        ...

    def load_checkpoint(self, path: Path) -> None:
        """Load what :meth:`save_checkpoint` saved."""
        ...


@torch.no_grad()
def unexplained(rebuilt: Tensor, target: Tensor) -> float:
    error = (target - rebuilt).square().sum()
    return float(error / (target - target.mean(0)).square().sum())


class Ours:
    def __init__(self, d_in: int, d_sae: int, k: int, **training: object) -> None:
        self.sae = SparseAutoencoder(SAEConfig(d_in, d_sae, "topk", k=k))
        settings = {"lr": LR, "lr_warmup_steps": 0, **training}
        self.trainer = SAETrainer(self.sae, SAETrainConfig(**settings))

    def step(self, batch: Tensor) -> float:
        return self.trainer.step(batch).loss

    def fvu(self, batch: Tensor) -> float:
        return unexplained(self.sae(batch), batch)

    @torch.no_grad()
    def start_at(self, encoder: Tensor, decoder: Tensor, center: Tensor) -> None:
        self.sae.encoder.weight.copy_(encoder)
        self.sae.encoder.bias.zero_()
        self.sae.W_dec.copy_(decoder)
        self.sae.b_dec.copy_(center * self.sae.scale_in)

    def save(self, path: Path) -> None:
        save_sae(self.sae, path)

    def save_checkpoint(self, path: Path) -> None:
        save_checkpoint(self.trainer, path)

    def load_checkpoint(self, path: Path) -> None:
        load_checkpoint(self.trainer, path)


class Sparsify:
    """The loop of sparsify's trainer, without the language model."""

    def __init__(self, d_in: int, d_sae: int, k: int) -> None:
        os.environ["SPARSIFY_DISABLE_TRITON"] = "1"
        from sparsify import SparseCoder, SparseCoderConfig

        config = SparseCoderConfig(num_latents=d_sae, k=k, activation="topk")
        self.sae = SparseCoder(d_in, config, device="cpu", dtype=torch.float32)
        self.optimizer = torch.optim.Adam(self.sae.parameters(), lr=LR)
        self.started = False

    def step(self, batch: Tensor) -> float:
        if not self.started:  # as sparsify's trainer does with the first batch
            self.sae.b_dec.data = batch.mean(0)
            self.started = True
        self.sae.set_decoder_norm_to_unit_norm()
        output = self.sae(batch)
        output.fvu.backward()
        self.sae.remove_gradient_parallel_to_decoder_directions()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(output.fvu.detach())

    def fvu(self, batch: Tensor) -> float:
        return float(self.sae(batch).fvu.detach())

    @torch.no_grad()
    def start_at(self, encoder: Tensor, decoder: Tensor, center: Tensor) -> None:
        self.sae.encoder.weight.copy_(encoder)
        self.sae.encoder.bias.zero_()
        self.sae.W_dec.copy_(decoder)
        self.sae.b_dec.copy_(center)

    def save(self, path: Path) -> None:
        self.sae.set_decoder_norm_to_unit_norm()
        self.sae.save_to_disk(path)

    def save_checkpoint(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        parts = {"sae": self.sae.state_dict(), "optimizer": self.optimizer.state_dict()}
        torch.save(parts, path / "state.pt")

    def load_checkpoint(self, path: Path) -> None:
        parts = torch.load(path / "state.pt")
        self.sae.load_state_dict(parts["sae"])
        self.optimizer.load_state_dict(parts["optimizer"])
        self.started = True


class SAELens:
    def __init__(self, d_in: int, d_sae: int, k: int) -> None:
        from sae_lens import LoggingConfig, SAETrainer, TopKTrainingSAE, TopKTrainingSAEConfig
        from sae_lens.config import SAETrainerConfig

        self.sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=d_in, d_sae=d_sae, k=k))
        config = SAETrainerConfig(
            total_training_samples=2**31,
            train_batch_size_samples=2048,
            lr=LR,
            lr_end=LR,
            logger=LoggingConfig(log_to_wandb=False),
        )
        self.trainer = SAETrainer(cfg=config, sae=self.sae, data_provider=iter(()))

    def step(self, batch: Tensor) -> float:
        loss = self.trainer.step(batch).loss
        self.trainer.n_training_steps += 1
        return float(loss.detach())

    def fvu(self, batch: Tensor) -> float:
        return unexplained(self.sae(batch), batch)

    @torch.no_grad()
    def start_at(self, encoder: Tensor, decoder: Tensor, center: Tensor) -> None:
        self.sae.W_enc.copy_(encoder.T)
        self.sae.b_enc.zero_()
        self.sae.W_dec.copy_(decoder)
        self.sae.b_dec.copy_(center)

    def save(self, path: Path) -> None:
        self.sae.save_inference_model(path)

    def save_checkpoint(self, path: Path) -> None:
        self.trainer.save_checkpoint(path.name, path.parent)

    def load_checkpoint(self, path: Path) -> None:
        self.sae.load_weights_from_checkpoint(path)
        self.trainer.load_trainer_state(path)


NARROW = "ours, bf16 selection"
"""Faster on CPUs with bfloat16 units; the same as ours on others."""
SIDES = {
    "ours": Ours,
    NARROW: partial(Ours, mixed_precision="bf16"),
    "sparsify": Sparsify,
    "SAELens": SAELens,
}
OWN = ("ours", NARROW)
LOAD = {"ours": load_sae, NARROW: load_sae, "sparsify": load_sparsify, "SAELens": load_saelens}
MODULES = {"sparsify": "sparsify", "SAELens": "sae_lens"}


def installed() -> list[str]:
    """Return the sides whose library is installed."""
    return [name for name in SIDES if name not in MODULES or _is_installed(MODULES[name])]


def require_all(names: Sequence[str]) -> None:
    """Exit unless the libraries of all these sides are installed."""
    missing = [name for name in names if name not in installed()]
    if missing:
        raise SystemExit(f"{' and '.join(missing)} must be installed: run `make bench-peers`")


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
