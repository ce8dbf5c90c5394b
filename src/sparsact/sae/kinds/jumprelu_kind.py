"""JumpReLU: a learned threshold per latent, and a penalty on the number that exceed it."""

import torch
from torch import Tensor, nn

from sparsact.functional import jumprelu
from sparsact.kernels import Entries
from sparsact.nn import JumpReLU
from sparsact.penalties import L0
from sparsact.sae.kinds.above_level import encode_above
from sparsact.sae.kinds.kind import ForeignTensors, KindOptions, SparseEncoding, level_for
from sparsact.sae.kinds.learned_threshold_kind import LearnedThresholdKind
from sparsact.sae.kinds.sparsity_term import SparsityTerm


class JumpReLUKind(LearnedThresholdKind[JumpReLU]):
    """A latent is its pre-activation if that exceeds a learned threshold, and 0 otherwise.

    Source:
        Rajamanoharan et al., "Jumping Ahead: Improving Reconstruction Fidelity with JumpReLU
        Sparse Autoencoders" (2024).
    """

    name = "jumprelu"
    summary = "what exceeds a learned threshold of each latent, with an L0 penalty"
    module_type = JumpReLU
    penalizes_custom = True
    saelens_reads = ("jumprelu", "jumprelu_transcoder", "jumprelu_skip_transcoder")
    saelens_writes = "jumprelu"
    saelens_writes_transcoder = "jumprelu_transcoder"

    @classmethod
    def make_module(cls, options: KindOptions) -> nn.Module:
        """Thresholds of 0.1 that learn through a window of width ``options.bandwidth``."""
        return JumpReLU(0.1, True, options.d_sae, channel_dim=-1, bandwidth=options.bandwidth)

    def penalty(self) -> SparsityTerm:
        """L0 of the module's own thresholds."""
        return _JumpTerm(self)

    def has_sparse_encoder(self) -> bool:
        """Other windows than the rectangle reach all entries."""
        return self.activation.kernel == "rectangle"

    def encode_sparse(
        self, encoder: nn.Linear, centered: Tensor, select_dtype: torch.dtype | None
    ) -> SparseEncoding:
        """Entries just below the threshold are kept as zeros: it learns through them, too."""
        level = self.levels() - self.activation.bandwidth / 2
        return encode_above(encoder, centered, level, self._jump_at)

    def _jump_at(self, pre: Tensor, columns: Tensor) -> Tensor:
        return jumprelu(pre, self.levels_at(columns), bandwidth=self.activation.bandwidth)

    def set_l0_(self, pre: Tensor, target: float, bias: Tensor) -> None:
        """Shift the thresholds; where they reach 0, the bias moves on."""
        level = level_for(pre - self.activation.threshold(pre), target)
        bias.sub_(self.raise_levels_(level))

    def saelens_tensors(self, bias: Tensor) -> dict[str, Tensor]:
        """The thresholds."""
        level = torch.as_tensor(self.activation.threshold(bias), dtype=torch.float32)
        return {"b_enc": bias, "threshold": level.expand_as(bias)}

    def load_saelens_(self, tensors: ForeignTensors, bias: Tensor) -> None:
        """The thresholds; older trainings saved their logarithm."""
        if "log_threshold" in tensors:
            level = tensors.take("log_threshold", len(bias)).exp()
        else:
            level = tensors.take("threshold", len(bias))
        own_level = self.learned_levels()
        assert own_level is not None
        own_level.copy_(level.clamp(min=0))  # SAELens treats negative ones as 0


class _JumpTerm(SparsityTerm):
    """The number of pre-activations above their thresholds, which learn from it."""

    def __init__(self, kind: JumpReLUKind) -> None:
        self.kind = kind
        self.l0 = L0(1.0, threshold=kind.activation)
        super().__init__(self.l0)

    def __call__(self, pre: Tensor | Entries, latents: Tensor | Entries) -> Tensor:
        """The count over a batch: a scalar."""
        if isinstance(pre, Entries):
            return self.l0.at_level(pre.values, self.kind.levels_at(pre.columns))
        return self.l0(pre)

    @property
    def counts_entries(self) -> bool:
        """Entries that the module neither passes nor learns from do not count."""
        return True
