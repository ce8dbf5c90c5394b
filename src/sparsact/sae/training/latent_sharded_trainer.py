"""Training a dictionary whose latents are spread over processes."""

import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact._common.processes import several_processes
from sparsact.control import CoefficientController
from sparsact.sae.data.activation_batches import Batch, as_pair
from sparsact.sae.geometry import normalize_rows_, remove_parallel_
from sparsact.sae.kinds import sparsity_term
from sparsact.sae.sae_config import SAEConfig, SAETrainConfig
from sparsact.sae.sae_model import SparseAutoencoder
from sparsact.sae.training.dead_latents import DeadLatents
from sparsact.sae.training.joined_processes import make_accelerator
from sparsact.sae.training.latent_collectives import joined_sum, keep_largest, shared, summed
from sparsact.sae.training.schedule import Schedule
from sparsact.sae.training.starting_point import start_
from sparsact.sae.training.step_stats import SAEStats
from sparsact.sae.training.trainable import check_options

KINDS = ("topk", "batch_topk", "relu", "jumprelu", "softshrink")
"""The kinds whose loss is a sum over latents, besides the selection."""

UNSUPPORTED = ("shard", "resample_every", "prefixes", "k_start", "mixed_precision", "p_end")
"""Settings that must keep their defaults."""


class LatentShardedTrainer:
    """Trains an autoencoder of which each process holds a part of the latents.

    A process has ``1/processes`` of the weights, their gradients and Adam's moments, and never
    more: the complete dictionary need not fit on any device. All processes get the same batch,
    and compute the pre-activations of their latents. They exchange the candidates of a selection
    and the sum of the reconstructions. A step does what one process would do with all latents.

    Args:
        config: sizes and kind of the complete autoencoder.
        training: settings. Those about resampling, prefixes, k_start, p_end, mixed precision and
            FSDP must keep their defaults.
        start: a complete autoencoder whose latents are shared out, for a dictionary that does
            fit. None: each process makes its own latents, from the seed and its rank.

    Attributes:
        part: this process's latents, as an autoencoder on its device.
        steps: number of steps done.

    Raises:
        InputError: a ValueError: fewer latents than processes; a kind or a setting that is not
            supported.
        ImportError: accelerate is not installed (extra ``sae``).

    Example:
        >>> trainer = LatentShardedTrainer(SAEConfig(d_in=8, d_sae=32, k=4), SAETrainConfig())
        >>> trainer.fit([torch.randn(64, 8) for _ in range(3)], steps=3).step
        3
    """

    def __init__(
        self,
        config: SAEConfig,
        training: SAETrainConfig | None = None,
        *,
        start: SparseAutoencoder | None = None,
    ) -> None:
        self.config, self.training = config, training or SAETrainConfig()
        _check(self.config, self.training)
        device = make_accelerator().device  # joins the processes, if there are several
        several = several_processes()
        self.rank = dist.get_rank() if several else 0
        self.processes = dist.get_world_size() if several else 1
        if config.d_sae < self.processes:
            raise InputError(f"d_sae={config.d_sae} is below the {self.processes} processes")
        first, last = self.bounds(self.rank)
        own = replace(config, d_sae=last - first, k=min(config.k, last - first))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.training.seed + self.rank)
            self.part = SparseAutoencoder(own).to(device)
        if start is not None:
            _copy_latents(start, self.part, first, last)
        if config.activation == "batch_topk":  # counts are added, so one process brings them all
            selection = self.part.kind.activation
            selection.k = config.k if self.rank == 0 else 0
            selection.joined = True
        self.term = sparsity_term(config.activation, self.part.activation)
        check_options(self.training, self.part, self.term)
        self.optimizer = torch.optim.Adam(
            self.part.parameters(), self.training.lr, self.training.betas, fused=True
        )
        self.latents = DeadLatents(last - first, self.training.dead_after).to(device)
        self.control = CoefficientController(self.training.coefficient, self.training.target_l0)
        self.schedule = Schedule(self.training)
        self.steps = self.skipped = 0

    def bounds(self, rank: int) -> tuple[int, int]:
        """The first latent of a process, and the one after its last."""
        total = self.config.d_sae
        return rank * total // self.processes, (rank + 1) * total // self.processes

    def fit(self, batches: Iterable[Batch], steps: int) -> SAEStats:
        """Train until `steps` steps have been done in total.

        Args:
            batches: the same in every process: (batch, d_in), or pairs for a transcoder.
            steps: counted from the first step of all.

        Raises:
            InputError: a ValueError: there are fewer batches than steps, or no step is left.
        """
        self.schedule.steps, stats = steps, None
        for batch in islice(batches, max(steps - self.steps, 0)):
            stats = self.step(batch)
        if stats is None or self.steps < steps:
            raise InputError(f"the batches ended after {self.steps} of {steps} steps")
        return stats

    def step(self, batch: Batch) -> SAEStats:
        """One optimizer step with the complete batch.

        Raises:
            InputError: a ValueError: the batch has another width, or NaN or infinity.
        """
        sae = self.part
        x, target = (part.to(sae.W_dec.dtype) for part in as_pair(batch, sae))
        if not bool(x.isfinite().all() and target.isfinite().all()):
            raise InputError(f"the batch of step {self.steps + 1} has NaN or infinity")
        if self.steps == 0:
            start_(sae, x, target, self.training.normalize_input)
            sae.is_fresh = False
        self.schedule.begin()
        coefficient = self.control.value * self.schedule.penalty_factor(self.steps + 1)
        scaled_target = target * sae.scale_out
        centered = sae.scaled(x) if sae.config.is_transcoder else sae.scaled(x) - shared(sae.b_dec)
        pre = sae.encoder(centered)
        latents = keep_largest(pre, self.config.k) if self._is_topk else sae.activation(pre)
        to_explain = scaled_target - sae.skipped(x)
        rebuilt = joined_sum(latents @ sae.W_dec) + sae.b_dec
        mse = nn.functional.mse_loss(rebuilt.float(), to_explain.float())
        penalty = mse.new_zeros(())
        if self.term is not None:
            penalty = self.term(pre, latents) / max(len(x), 1)
        aux = self._aux(centered, to_explain, rebuilt)
        (mse + coefficient * penalty + self.training.aux_coefficient * aux).backward()
        norm, lr = self._move()
        active = latents.detach() != 0
        self.latents.update(active.any(0), len(x))
        self.steps += 1
        counts = torch.stack([active.sum() / len(x), penalty.detach(), self.latents.dead.sum()])
        l0, penalty_sum, dead = summed(counts.float()).tolist()
        if self.schedule.controls_l0(self.steps):
            self.control.update(l0)
        loss = mse.detach() + coefficient * penalty_sum
        loss = loss + self.training.aux_coefficient * aux.detach()
        variance = (scaled_target - scaled_target.mean(0)).float().square().mean()
        fvu = float(mse.detach() / variance)
        return SAEStats(
            *(self.steps, float(loss), fvu, l0, penalty_sum, coefficient, float(aux.detach())),
            *(int(dead), norm, self.skipped, lr),
        )

    @torch.no_grad()
    def autoencoder(self) -> SparseAutoencoder:
        """The complete autoencoder on the CPU of every process. All processes must call this."""
        complete = SparseAutoencoder(self.config)
        own = self.part.state_dict()
        state = complete.state_dict()
        for name, value in state.items():
            if value.shape == own[name].shape and value.shape[:1] != (self.config.d_sae,):
                value.copy_(own[name])
            elif value.shape[:1] == (self.config.d_sae,):
                value.copy_(torch.cat(self._parts(own[name])))
        complete.load_state_dict(state)
        complete.trained_on = self.part.trained_on
        return complete.eval()

    @property
    def _is_topk(self) -> bool:
        return self.config.activation == "topk"

    def _parts(self, own: Tensor) -> list[Tensor]:
        """A tensor's rows of every process, on the CPU."""
        if self.processes == 1:
            return [own.cpu()]
        sizes = [high - low for low, high in map(self.bounds, range(self.processes))]
        padded = own.new_zeros(max(sizes), *own.shape[1:])
        padded[: len(own)] = own
        every = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(every, padded)
        return [rows[:size].cpu() for rows, size in zip(every, sizes, strict=True)]

    def _aux(self, centered: Tensor, target: Tensor, rebuilt: Tensor) -> Tensor:
        """The auxiliary loss of `SAELoss`, with the dead latents of all processes."""
        dead = self.latents.dead
        if not self.training.aux_k or not int(summed(dead.sum())):
            return target.new_zeros((), dtype=torch.float32)
        residual = (target - rebuilt).detach()
        encoder = self.part.encoder
        pre = nn.functional.linear(centered, encoder.weight[dead], encoder.bias[dead])
        chosen = keep_largest(pre, min(self.training.aux_k, self.config.d_sae))
        explained = joined_sum(chosen @ self.part.W_dec[dead])
        tiny = torch.finfo(torch.float32).tiny
        size = residual.float().square().mean().clamp(min=tiny)
        return (explained - residual).float().square().mean() / size

    def _move(self) -> tuple[float, float]:
        """Clip the gradient of all latents, and take the step; skip it if it is not finite."""
        sae = self.part
        assert sae.W_dec.grad is not None
        remove_parallel_(sae.W_dec.grad, sae.W_dec)
        gradients = {name: own.grad for name, own in sae.named_parameters() if own.grad is not None}
        own = [x.double().square().sum() for n, x in gradients.items() if n not in REPLICATED]
        total = summed(torch.stack(own).sum())
        for name in REPLICATED & gradients.keys():
            total += gradients[name].double().square().sum()
        norm = float(total.sqrt())
        lr = self.training.lr * self.schedule.lr_factor(self.steps + 1)
        if math.isfinite(norm):
            for gradient in gradients.values():
                gradient.mul_(min(self.training.clip_grad_norm / (norm + 1e-6), 1.0))
            self.optimizer.param_groups[0]["lr"] = lr
            self.optimizer.step()
            normalize_rows_(sae.W_dec)
        self.skipped += not math.isfinite(norm)
        self.optimizer.zero_grad()
        return norm, lr


REPLICATED = {"b_dec", "W_skip"}
"""Parameters that every process has completely."""


def _check(config: SAEConfig, training: SAETrainConfig) -> None:
    if config.activation not in KINDS:
        raise InputError(
            f"latents of the kind {config.activation!r} cannot be spread over processes; "
            f"{', '.join(KINDS)} can"
        )
    default = SAETrainConfig()
    changed = [name for name in UNSUPPORTED if getattr(training, name) != getattr(default, name)]
    if changed:
        raise InputError(f"{changed[0]}= is not supported with latents spread over processes")


@torch.no_grad()
def _copy_latents(start: SparseAutoencoder, part: SparseAutoencoder, first: int, last: int) -> None:
    """Copy a range of latents of a complete autoencoder, and what all processes have."""
    rows = start.config.d_sae
    for name, value in part.state_dict().items():
        whole = start.state_dict()[name]
        value.copy_(whole[first:last] if whole.shape[:1] == (rows,) else whole)
    part.is_fresh, part.trained_on = start.is_fresh, start.trained_on
