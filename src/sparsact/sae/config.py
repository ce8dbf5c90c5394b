"""What a sparse autoencoder is, and how it is trained."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["relu", "topk", "batch_topk", "jumprelu", "softshrink", "gated", "custom"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class SAEConfig:
    """The shape of a sparse autoencoder and the kind of its threshold.

    Args:
        d_in: width of the activations that are encoded.
        d_sae: number of latents.
        activation: ``"relu"`` (with an L1 penalty), ``"topk"``, ``"batch_topk"``, ``"jumprelu"``
            (learned thresholds, with an L0 penalty), ``"softshrink"`` (learned thresholds, signed
            latents, with an L1 penalty), ``"gated"``, or ``"custom"`` for a module of your own.
        k: latents kept per input, by the two kinds that select.
        d_out: width of what is reconstructed; another tensor than the input makes it a
            transcoder. None: the input itself.
        bandwidth: width of the window through which jumprelu's thresholds learn, in units of the
            scaled input.

    Raises:
        ValueError: a size is not positive, k exceeds `d_sae`, the kind is unknown.
    """

    d_in: int
    d_sae: int
    activation: Kind = "topk"
    k: int = 32
    d_out: int | None = None
    bandwidth: float = 0.03

    def __post_init__(self) -> None:
        for name in ("d_in", "d_sae", "k", "d_out"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.activation not in KINDS:
            raise ValueError(
                f"activation must be one of {', '.join(KINDS)}; got {self.activation!r}"
            )
        if self.selects and self.k > self.d_sae:
            raise ValueError(f"k={self.k} latents cannot be kept of d_sae={self.d_sae}")
        if not self.bandwidth > 0:
            raise ValueError(f"bandwidth must be positive, got {self.bandwidth}")

    @property
    def selects(self) -> bool:
        """Whether the kind keeps a chosen number of latents instead of having a penalty."""
        return self.activation in ("topk", "batch_topk")

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
        lr: learning rate of Adam.
        betas: of Adam.
        lr_warmup_steps: over which the learning rate rises linearly from 0.
        coefficient: of the kind's penalty; where `target_l0` is set, what it starts from.
        sparsity_warmup_steps: over which the coefficient rises linearly from 0.
        target_l0: mean number of active latents wanted: the coefficient is moved until it is
            reached. None: the coefficient stays. The kinds that select have their k instead.
        clip_grad_norm: largest norm of the gradient; a larger one is scaled down. The default is
            below most of them: the large gradients of the first steps would else stay in Adam's
            second moments for a thousand steps, and shorten those.
        aux_k: dead latents that reconstruct the residual in the auxiliary loss; 0 turns it off.
        aux_coefficient: of that loss.
        dead_after: inputs without firing after which a latent counts as dead.
        resample_every: steps between revivals of dead latents by resampling; 0 turns it off.
        normalize_input: scale inputs to a mean norm of √d_in while training.
        mixed_precision: ``"no"`` or ``"bf16"``: matmuls in bfloat16, with parameters,
            thresholds and optimizer state in float32. Sparse kernels stay in float32 but for the
            selection of topk, on a CPU that multiplies in bfloat16: half of a step there.
        sparse: compute with the active latents alone while they are so few that it is faster.
        seed: of the initial weights' and the resampling's randomness.
        shard: spread parameters and optimizer state over the processes (FSDP2) instead of having
            all of them on each; the dense path is taken.

    Raises:
        ValueError: a value is out of its range.
    """

    lr: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.999)
    lr_warmup_steps: int = 100
    coefficient: float = 1e-3
    sparsity_warmup_steps: int = 500
    target_l0: float | None = None
    clip_grad_norm: float = 0.01
    aux_k: int = 256
    aux_coefficient: float = 1 / 32
    dead_after: int = 1_000_000
    resample_every: int = 0
    normalize_input: bool = True
    mixed_precision: Literal["no", "bf16"] = "no"
    sparse: bool = True
    seed: int = 0
    shard: bool = False

    def __post_init__(self) -> None:
        for name in ("lr", "clip_grad_norm", "dead_after"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.lr == math.inf:
            raise ValueError("lr must be finite")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be two numbers in [0, 1), got {self.betas}")
        if self.mixed_precision not in ("no", "bf16"):
            raise ValueError(
                f"mixed_precision must be 'no' or 'bf16', got {self.mixed_precision!r}"
            )
        counted = ("lr_warmup_steps", "sparsity_warmup_steps", "aux_k", "resample_every")
        for name in (*counted, "coefficient", "aux_coefficient"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(
                    f"{name} must be finite and not negative, got {getattr(self, name)}"
                )
        if self.target_l0 is not None and not self.target_l0 > 0:
            raise ValueError(f"target_l0 must be positive, got {self.target_l0}")
