"""Soft shrinkage: learned thresholds and signed latents."""

import torch
from torch import Tensor, nn

from sparsact.functional import softshrink
from sparsact.nn import Softshrink
from sparsact.penalties import L1
from sparsact.sae.kinds.above_level import encode_above
from sparsact.sae.kinds.kind import KindOptions, SparseEncoding, level_for
from sparsact.sae.kinds.learned_threshold_kind import LearnedThresholdKind
from sparsact.sae.kinds.sparsity_term import SparsityTerm


class SoftshrinkKind(LearnedThresholdKind[Softshrink]):
    """Magnitudes shrink by a learned threshold of each latent; latents keep their sign."""

    name = "softshrink"
    summary = "signed latents, shrunk by a learned threshold of each, with an L1 penalty"
    module_type = Softshrink

    @classmethod
    def make_module(cls, options: KindOptions) -> nn.Module:
        """Thresholds of 0.1."""
        return Softshrink(0.1, True, options.d_sae, channel_dim=-1)

    def penalty(self) -> SparsityTerm:
        """L1 on the latents."""
        return SparsityTerm(L1(1.0))

    def has_sparse_encoder(self) -> bool:
        """The kernel compares magnitudes."""
        return self.activation.sides == "both"

    def encode_sparse(
        self, encoder: nn.Linear, centered: Tensor, select_dtype: torch.dtype | None
    ) -> SparseEncoding:
        """The pre-activations whose magnitude exceeds the threshold."""
        return encode_above(encoder, centered, self.levels(), self._shrink_at, by="magnitude")

    def _shrink_at(self, pre: Tensor, columns: Tensor) -> Tensor:
        return softshrink(pre, self.levels_at(columns))

    def set_l0_(self, pre: Tensor, target: float, bias: Tensor) -> None:
        """Shift the thresholds."""
        self.raise_levels_(level_for(pre.abs() - self.activation.threshold(pre), target))
