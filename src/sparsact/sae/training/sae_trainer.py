"""The training loop of an autoencoder, one readable step at a time."""

import math
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.control import CoefficientController
from sparsact.penalties import Penalty
from sparsact.sae.data.activation_batches import Batch, as_pair
from sparsact.sae.kinds import KINDS, SparsityTerm, sparsity_term
from sparsact.sae.sae_config import SAETrainConfig
from sparsact.sae.sae_model import SparseAutoencoder, evaluating
from sparsact.sae.training.dead_latents import DeadLatents, forget_, resample_
from sparsact.sae.training.encoding import can_be_sparse
from sparsact.sae.training.joined_processes import (
    check_accelerator,
    check_parts,
    join,
    make_accelerator,
    mean,
)
from sparsact.sae.training.optimizer_step import move_, restore_rates_
from sparsact.sae.training.sae_loss import LossParts, OwnLoss, SAELoss
from sparsact.sae.training.schedule import Schedule
from sparsact.sae.training.sharding import (
    edited,
    gathered,
    is_sharded,
    load_,
    shard_,
    shard_optimizer_state,
    unsharded_copy,
)
from sparsact.sae.training.starting_point import start_
from sparsact.sae.training.step_stats import SAEStats, read_figures
from sparsact.sae.training.target_l0 import check_target, set_l0_
from sparsact.sae.training.trainable import check_options

if TYPE_CHECKING:
    from accelerate import Accelerator


class SAETrainer:
    """Trains a sparse autoencoder.

    The first batch sets the scale of the inputs. If the autoencoder was neither trained nor
    loaded, it also sets the decoder's bias, to the geometric median. Otherwise the training
    continues from its weights.

    With several processes (``torchrun``, ``accelerate launch``), each step takes this process's
    part of the batch; all parts have the same size. A step does what one process would do with
    the joined batch, and statistics are those of the joined batch. All processes must make every
    call. One exception: if `penalty` is not a sum over rows, such as `KLSparsity`, it is
    computed for each part.

    Args:
        sae: the autoencoder, which is trained in place. It maps raw activations at all times,
            unless `config` shards it; then :meth:`autoencoder` returns one that does.
        config: settings of the training.
        penalty: replaces the kind's own penalty; with coefficient 1, applied to the latents.
        own_loss: a term that is added to the loss: a scalar from the autoencoder, the raw inputs
            (batch, d_in), and the targets and their reconstruction (batch, d_out) in the scale of
            training. With several processes, the mean over them counts.
        accelerator: device and processes. The default is set up as ``accelerate launch`` says.
        sparse_below: share of active latents below which the sparse kernels are used, because
            they are faster than dense products there.

    Raises:
        InputError: a ValueError: a target L0 for a kind that has its k, or without a penalty; an
            autoencoder that normalises each input; prefixes or a k_start above the number of
            latents; a k_start or p_end for a kind that has no k, or no L1 penalty; sharding in a
            single process, or through accelerate instead of `config`; float16.
        TypeError: a target L0 for a module of your own whose thresholds are unknown, or fixed.
        ImportError: accelerate is not installed (extra ``sae``).

    Example:
        >>> from sparsact.sae import SAEConfig
        >>> sae = SparseAutoencoder(SAEConfig(d_in=8, d_sae=32, k=4))
        >>> trainer = SAETrainer(sae, SAETrainConfig(lr=1e-3))
        >>> batches = [torch.randn(64, 8) for _ in range(3)]
        >>> trainer.fit(batches, steps=3).step
        3
    """

    def __init__(
        self,
        sae: SparseAutoencoder,
        config: SAETrainConfig | None = None,
        *,
        penalty: Penalty | None = None,
        own_loss: OwnLoss | None = None,
        accelerator: "Accelerator | None" = None,
        sparse_below: float = 0.1,
    ) -> None:
        self.config = config = config or SAETrainConfig()
        self.sae = sae
        self.sparse_below = sparse_below
        term = sparsity_term(sae.config.activation, sae.activation)
        term = term if penalty is None else SparsityTerm(penalty)
        check_target(config.target_l0, sae, term)
        check_options(config, sae, term)
        self.accelerator: Any = accelerator or make_accelerator()
        check_accelerator(config, self.accelerator)
        sae.kind.join_processes_(self.accelerator.num_processes > 1)
        self.loss, self.optimizer = self._prepared(
            SAELoss(
                sae,
                term,
                config.aux_k,
                config.aux_coefficient,
                config.prefixes,
                own_loss,
                partial(mean, self.accelerator),
            )
        )
        self.latents = DeadLatents(sae.config.d_sae, config.dead_after).to(sae.W_dec.device)
        self.control = CoefficientController(config.coefficient, config.target_l0)
        self.schedule = Schedule(config)
        self.steps = 0
        self.skipped = 0
        self._l0 = math.inf  # of the last step
        self._generator = torch.Generator().manual_seed(config.seed)

    def _prepared(self, loss: SAELoss) -> tuple[Any, Any]:
        """The objective and its optimizer, on the device, copied to all processes or sharded."""
        if self.config.shard:
            shard_(loss.to(self.accelerator.device), self.accelerator.device)
        config = self.config
        parameters = self.sae.parameters()
        optimizer = torch.optim.Adam(parameters, config.lr, config.betas, fused=True)
        if config.shard:
            return loss, self.accelerator.prepare(optimizer)
        return self.accelerator.prepare(loss, optimizer)  # type: ignore[no-any-return]

    def fit(self, batches: Iterable[Batch], steps: int) -> SAEStats:
        """Train until `steps` steps have been done in total.

        Args:
            batches: each (batch, d_in), or pairs for a transcoder.
            steps: counted from the first step of all, also if the trainer was resumed.

        Returns:
            the statistics of the last step.

        Raises:
            InputError: a ValueError: there are fewer batches than steps, or no step is left.
        """
        last = list(self.run(batches, steps))[-1:]
        if not last or self.steps < steps:
            raise InputError(f"the batches ended after {self.steps} of {steps} steps")
        return last[0]

    def run(self, batches: Iterable[Batch], steps: int) -> Iterator[SAEStats]:
        """As :meth:`fit`, yielding the statistics of each step."""
        self.schedule.steps = steps
        try:
            for batch in islice(batches, max(steps - self.steps, 0)):
                yield self.step(batch)
        finally:
            self.schedule.steps = None  # later steps are not the end of this run

    def step(self, batch: Batch) -> SAEStats:
        """One optimizer step.

        The length of the run is known in :meth:`run` and :meth:`fit` only. Without it, default
        warm-ups are 100 and 500 steps, and resampling does not stop before the end.

        Raises:
            InputError: a ValueError: the batch has another width, or holds NaN or infinity; or
                the learning rate decays, and the length of the run is unknown.
        """
        x, target = (part.to(self.sae.W_dec.dtype) for part in as_pair(batch, self.sae))
        check_parts(self.accelerator, x, target, self.steps + 1)
        if self.steps == 0:
            self._start(x, target)
        self.schedule.begin()
        lr_factor = self.schedule.lr_factor(self.steps + 1)
        if self.config.k_start is not None:
            self.sae.kind.activation.k = self.schedule.k(self.steps + 1, self.sae.config.k)
        power = self.schedule.power(self.steps + 1)
        coefficient = self.control.value * self.schedule.penalty_factor(self.steps + 1)
        in_bfloat16 = "bf16" in (self.config.mixed_precision, self.accelerator.mixed_precision)
        with torch.autocast(x.device.type, torch.bfloat16, in_bfloat16):
            parts: LossParts = self.loss(
                x, target, coefficient, self.latents.dead, self._is_sparse(), power
            )
        self.accelerator.backward(parts.total)
        norm, lr = move_(self.accelerator, self.optimizer, self.sae, self.config, lr_factor)
        self.skipped += not math.isfinite(norm)
        parts = join(self.accelerator, parts)
        self.latents.update(parts.fired, len(x) * self.accelerator.num_processes)
        self.steps += 1
        figures = read_figures(parts, self.latents.dead)
        self._l0 = figures["l0"]
        if self.schedule.controls_l0(self.steps):
            self.control.update(self._l0)
        if self.schedule.resamples(self.steps):
            self._resample(x, target)
            figures["dead"] = float(self.latents.dead.sum())
        return SAEStats(
            step=self.steps,
            loss=figures["loss"],
            fvu=figures["fvu"],
            l0=figures["l0"],
            penalty=figures["penalty"],
            coefficient=coefficient,
            aux=figures["aux"],
            dead=int(figures["dead"]),
            gradient_norm=norm,
            skipped=self.skipped,
            lr=lr,
        )

    def reach_target(self, held_out: Tensor) -> float:
        """Shift the thresholds so that the target L0 holds on held-out inputs.

        Args:
            held_out: (n, d_in), raw; the same in every process.

        Returns:
            the mean number of active latents on these inputs afterwards.

        Raises:
            InputError: a ValueError: no target is set.
        """
        if self.config.target_l0 is None:
            raise InputError("target_l0= is not set in the training's config")
        processes = self.accelerator.num_processes
        with torch.no_grad(), evaluating(self.sae), edited(self.sae, processes) as sae:
            held_out = held_out.to(sae.W_dec.device)
            pre = sae.pre_activations(sae.scaled(held_out))
            set_l0_(sae, pre, self.config.target_l0)
            l0 = (sae.encode(held_out) != 0).sum(1).float().mean().item()
        return l0

    def autoencoder(self) -> SparseAutoencoder:
        """The current autoencoder: `sae` itself, or a complete copy if it is sharded."""
        return unsharded_copy(self.sae) if is_sharded(self.sae.W_dec) else self.sae

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed training needs to continue as if it had not stopped.

        It does not depend on the number of processes, or on sharding.
        """
        return {
            "sae": gathered(dict(self.sae.state_dict())),
            "optimizer": gathered(self.optimizer.state_dict()),
            "since_fired": self.latents.since_fired,
            "generator": self._generator.get_state(),
            "steps": self.steps,
            "skipped": self.skipped,
            "l0": self._l0,
            "coefficient": self.control.coefficient,
            "smoothed": self.control.smoothed,
            "schedule": self.schedule.state_dict(),
            "lr": self.config.lr,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` returned."""
        load_(self.sae, state["sae"])
        moments = shard_optimizer_state(state["optimizer"], list(self.sae.parameters()))
        self.optimizer.load_state_dict(moments)
        restore_rates_(self.optimizer, self.config.lr, state.get("lr"))
        self.latents.since_fired.copy_(state["since_fired"])
        self._generator.set_state(state["generator"])
        self.steps, self.skipped, self._l0 = state["steps"], state["skipped"], state["l0"]
        self.control.coefficient = state["coefficient"]
        self.control.smoothed = state["smoothed"]
        self.schedule.load_state_dict(state.get("schedule"))

    def _is_sparse(self) -> bool:
        """Whether few enough latents are active, by the k or by the last step."""
        config = self.sae.config
        keeps_k = KINDS[config.activation].keeps_k_per_input
        active = self.sae.kind.activation.k if keeps_k else self._l0
        if self.config.shard:  # the kernels read weights through NumPy; FSDP frees that memory
            return False
        few = active < self.sparse_below * config.d_sae
        return self.config.sparse and few and can_be_sparse(self.sae)

    def _start(self, x: Tensor, target: Tensor) -> None:
        """Prepare the autoencoder from the first batch of all processes."""
        x, target = self.accelerator.gather((x, target))
        with edited(self.sae, self.accelerator.num_processes) as sae:
            start_(sae, x, target, self.config.normalize_input)
        self.sae.is_fresh = False

    def _resample(self, x: Tensor, target: Tensor) -> None:
        dead = self.latents.dead
        x, target = self.accelerator.gather((x, target))
        with edited(self.sae, self.accelerator.num_processes) as sae:
            revived = resample_(sae, dead, x, target, self._generator)
        if bool(revived.any()):
            optimizer = getattr(self.optimizer, "optimizer", self.optimizer)
            forget_(optimizer, self.sae, revived)
            self.latents.reset(revived)
