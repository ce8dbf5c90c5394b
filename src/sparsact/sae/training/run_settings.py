"""The settings of a training run."""

from dataclasses import dataclass, field

from sparsact._common.errors import InputError
from sparsact.sae.data.activation_source import ActivationSource, check_at_least
from sparsact.sae.kinds import PresetName
from sparsact.sae.sae_config import SAEConfig, SAETrainConfig
from sparsact.sae.training.run_log import Tracker
from sparsact.sae.training.schedule import warmups


@dataclass(frozen=True)
class SAERun:
    """Train a sparse autoencoder."""

    source: ActivationSource = field(default_factory=ActivationSource)
    training: SAETrainConfig = field(default_factory=SAETrainConfig)
    activation: PresetName = "topk"
    """The kind of autoencoder."""
    d_sae: int = 4096
    """Number of latents."""
    k: int = 32
    """Number of latents that topk and batch_topk keep."""
    steps: int = 2000
    """Optimizer steps."""
    batch_size: int = 2048
    """Activations in a step, summed over processes."""
    held_out: int = 8192
    """Activations, drawn at random, that are kept from training for the figures at the end. With
    a target L0, half of them set the thresholds and the other half is measured."""
    buffer_rows: int = 262_144
    """Activations that are in memory and shuffled together. Processes share them."""
    checkpoint_every: int = 200
    """Steps between checkpoints."""
    out: str = "runs/sae"
    """Directory of the run."""
    resume: bool = False
    """Resume the run in that directory."""
    trackers: tuple[Tracker, ...] = ()
    """Where steps are logged besides log.jsonl: tensorboard (in the run), wandb."""

    def autoencoder(self, width: int) -> SAEConfig:
        """The sizes of the autoencoder, for activations of that width."""
        return SAEConfig(width, self.d_sae, self.activation, k=self.k)

    def check(self, processes: int) -> None:
        """Raise InputError if settings contradict each other."""
        source, training = self.source, self.training
        if (source.data is None) == (source.model is None):
            raise InputError("give either data=, or model= with layer= and text=")
        if source.data is not None and source.stream:
            raise InputError("stream= needs model=: data= is on the disk already")
        if source.model is not None:
            source.check()
        _, warmup = warmups(training, self.steps)
        if training.target_l0 is not None and self.steps <= warmup:
            raise InputError(
                f"target_l0= takes effect after the sparsity warmup of {warmup} steps: raise "
                "steps= above that, or lower sparsity_warmup_steps="
            )
        for name in ("steps", "batch_size", "buffer_rows", "checkpoint_every"):
            check_at_least(name, getattr(self, name), 1)
        # with a target one half sets the thresholds, and the other is measured
        check_at_least("held_out", self.held_out, 1 if training.target_l0 is None else 2)
        if training.lr_decay_steps > self.steps:
            raise InputError(
                f"lr_decay_steps={training.lr_decay_steps} exceeds steps={self.steps}: the decay "
                "is a part of the run"
            )
        if self.batch_size % processes:
            raise InputError(
                f"batch_size={self.batch_size} cannot be divided among {processes} processes"
            )
        self.autoencoder(1)
