"""The settings of a sparse autoencoder and of its training."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from sparsact._common.errors import InputError, unknown
from sparsact.sae.kinds import KINDS, KindName
from sparsact.sae.row_norms import ROW_NORMS, Normalize

DEAD_AFTER = 1_000_000
"""Inputs without firing after which a latent counts as dead, by default."""


@dataclass(frozen=True)
class SAEConfig:
    """The sizes of a sparse autoencoder and its kind.

    Args:
        d_in: width of the activations that are encoded.
        d_sae: number of latents.
        activation: the kind, a name in `sparsact.sae.KINDS`, such as ``"topk"``,
            ``"batch_topk"``, ``"jumprelu"``, ``"relu"``, ``"softshrink"`` or ``"gated"``; or
            ``"custom"`` for a threshold module of your own.
        k: latents kept per input, for the kinds that select (topk and batch_topk).
        d_out: width of the reconstruction, for a transcoder, which reconstructs another tensor
            than its input. None: the input is reconstructed.
        bandwidth: width of the window through which the thresholds of jumprelu learn, in units
            of the scaled input.
        normalize: normalisation of each input by itself, undone in the reconstruction:
            ``"none"``, ``"layer_norm"`` or ``"unit_norm"``. For autoencoders of other libraries:
            one with a normalisation can be used, not trained.
        skip: whether a transcoder adds a linear map of its input to the prediction, which starts
            at zero (Paulo et al., "Transcoders Beat Sparse Autoencoders for Interpretability",
            2025).

    Raises:
        InputError: a ValueError: a size is not positive, `k` exceeds `d_sae`, or there is no
            such kind or normalisation; a skip connection in an autoencoder, or a normalisation
            in a transcoder.
    """

    d_in: int
    d_sae: int
    activation: KindName = "topk"
    k: int = 32
    d_out: int | None = None
    bandwidth: float = 0.03
    normalize: Normalize = "none"
    skip: bool = False

    def __post_init__(self) -> None:
        for name in ("d_in", "d_sae", "k", "d_out"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name}= must be at least 1, got {value}")
        if self.activation not in KINDS:
            raise unknown("activation", self.activation, KINDS)
        if self.selects and self.k > self.d_sae:
            raise InputError(f"k={self.k} exceeds d_sae={self.d_sae}")
        if not self.bandwidth > 0:
            raise InputError(f"bandwidth= must be positive, got {self.bandwidth}")
        if self.normalize not in ("none", *ROW_NORMS):
            raise unknown("normalize", self.normalize, ("none", *ROW_NORMS))
        if self.skip and not self.is_transcoder:
            raise InputError("skip= needs a transcoder: set d_out=")
        if self.is_transcoder and self.normalize != "none":
            raise InputError(f"a transcoder cannot have normalize={self.normalize!r}")

    @property
    def selects(self) -> bool:
        """Whether the kind keeps `k` latents instead of having a penalty."""
        return KINDS[self.activation].selects

    @property
    def width_out(self) -> int:
        """Width of the reconstruction."""
        return self.d_in if self.d_out is None else self.d_out

    @property
    def is_transcoder(self) -> bool:
        """Whether input and target are different tensors."""
        return self.d_out is not None


@dataclass(frozen=True)
class SAETrainConfig:
    """How a sparse autoencoder is trained.

    Args:
        lr: Learning rate of Adam. A scheduler of torch on ``SAETrainer.optimizer`` changes it
            further; warm-up and decay then multiply the scheduler's value.
        betas: The two decay rates of Adam.
        lr_warmup_steps: Steps over which the learning rate rises linearly from 0. None: one
            twentieth of the run, at most 100.
        lr_decay_steps: Steps at the end of the run over which the learning rate falls linearly
            to 0.
        lr_decay: Shape of that fall: ``"linear"`` or ``"cosine"``.
        coefficient: Coefficient of the kind's penalty. With `target_l0`, the value it starts
            from.
        sparsity_warmup_steps: Steps over which the coefficient rises linearly from 0. None: a
            quarter of the run, at most 500.
        target_l0: Target for the mean number of active latents: the coefficient is adjusted
            until it is reached. None keeps the coefficient fixed. Kinds that select have `k`
            instead.
        p_end: Exponent p at the end of the run of the penalty Σ|z|^p, for kinds with an L1 penalty.
            It falls linearly from 1 after the sparsity warm-up. 1 keeps the L1 penalty.
        k_start: Latents kept in the first step by the kinds that select; the number changes
            linearly to k. None: k from the start.
        k_warmup_steps: Steps over which it changes.
        prefixes: Numbers of latents, ascending. The loss also has the error of reconstructing with
            the first so many latents alone, for each of them (Matryoshka).
        clip_grad_norm: Largest norm of the gradient; a larger gradient is scaled down. The
            default is below most norms. Otherwise the large first gradients inflate Adam's
            second moments for about a thousand steps and shrink the updates.
        aux_k: Number of dead latents that reconstruct the residual in the auxiliary loss. 0
            disables it.
        aux_coefficient: Coefficient of the auxiliary loss.
        dead_after: A latent counts as dead after this many inputs without firing.
        resample_every: Steps between resamplings, which revive dead latents. 0 disables them.
            The last fifth of a run has none, so that revived latents are trained.
        normalize_input: Scale inputs to a mean norm of √d_in during training.
        mixed_precision: ``"no"`` or ``"bf16"``: matrix products in bfloat16; parameters,
            thresholds and optimizer state in float32. Sparse kernels stay in float32, except
            that topk selects in bfloat16 on CPUs that multiply in bfloat16, which halves the
            time of a step there.
        sparse: Compute with the active latents only, while they are so few that this is faster.
        seed: Seed of the initial weights and of resampling.
        shard: Shard parameters and optimizer state over the processes (FSDP2) instead of
            copying them to each. The dense encoder is used.

    Raises:
        InputError: a ValueError: a value is out of its range.
    """

    lr: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.999)
    lr_warmup_steps: int | None = None
    lr_decay_steps: int = 0
    lr_decay: Literal["linear", "cosine"] = "linear"
    coefficient: float = 1e-3
    sparsity_warmup_steps: int | None = None
    target_l0: float | None = None
    p_end: float = 1.0
    k_start: int | None = None
    k_warmup_steps: int = 0
    prefixes: tuple[int, ...] = ()
    clip_grad_norm: float = 0.01
    aux_k: int = 256
    aux_coefficient: float = 1 / 32
    dead_after: int = DEAD_AFTER
    resample_every: int = 0
    normalize_input: bool = True
    mixed_precision: Literal["no", "bf16"] = "no"
    sparse: bool = True
    seed: int = 0
    shard: bool = False

    def __post_init__(self) -> None:
        for name in ("lr", "clip_grad_norm", "dead_after"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name}= must be positive, got {getattr(self, name)}")
        if self.lr == math.inf:
            raise InputError("lr= must be finite")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"betas= must be two numbers in [0, 1), got {self.betas}")
        if self.mixed_precision not in ("no", "bf16"):
            raise InputError(
                f"mixed_precision= must be 'no' or 'bf16', got {self.mixed_precision!r}"
            )
        if self.lr_decay not in ("linear", "cosine"):
            raise unknown("lr_decay", self.lr_decay, ("linear", "cosine"))
        if not 0 < self.p_end <= 1:
            raise InputError(f"p_end= must be above 0 and at most 1, got {self.p_end}")
        if self.k_start is not None and self.k_start < 1:
            raise InputError(f"k_start= must be at least 1, got {self.k_start}")
        sizes = (0, *self.prefixes)
        if any(one >= other for one, other in pairwise(sizes)):
            raise InputError(f"prefixes= must be positive and ascend, got {self.prefixes}")
        counts = ("lr_warmup_steps", "lr_decay_steps", "sparsity_warmup_steps", "aux_k")
        for name in (*counts, "k_warmup_steps", "resample_every", "coefficient", "aux_coefficient"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise InputError(f"{name}= must be finite and not negative, got {value}")
        if self.target_l0 is not None and not self.target_l0 > 0:
            raise InputError(f"target_l0= must be positive, got {self.target_l0}")
