"""ReLU with an L1 penalty: the original sparse autoencoder."""

import torch
from torch import Tensor, nn

from sparsact.penalties import L1
from sparsact.sae.kinds.above_level import encode_above
from sparsact.sae.kinds.kind import Kind, KindOptions, SparseEncoding, level_for
from sparsact.sae.kinds.sparsity_term import SparsityTerm


class ReLUKind(Kind[nn.ReLU]):
    """Latents are the positive pre-activations; an L1 penalty makes them few."""

    name = "relu"
    summary = "the positive part, with an L1 penalty"
    module_type = nn.ReLU
    saelens_reads = ("standard", "transcoder", "skip_transcoder")
    saelens_writes = "standard"
    saelens_writes_transcoder = "transcoder"

    @classmethod
    def make_module(cls, options: KindOptions) -> nn.Module:
        """A ReLU."""
        return nn.ReLU()

    def penalty(self) -> SparsityTerm:
        """L1 on the latents."""
        return SparsityTerm(L1(1.0))

    def has_sparse_encoder(self) -> bool:
        """Inactive latents have no gradient."""
        return True

    def encode_sparse(
        self, encoder: nn.Linear, centered: Tensor, select_dtype: torch.dtype | None
    ) -> SparseEncoding:
        """The pre-activations above 0."""
        return encode_above(encoder, centered, 0.0, lambda values, columns: values.relu())

    def can_set_l0(self) -> bool:
        """The bias sets it."""
        return True

    def set_l0_(self, pre: Tensor, target: float, bias: Tensor) -> None:
        """Shift the bias."""
        bias.sub_(level_for(pre, target))

    def rescale_(self, factor: Tensor) -> bool:
        """ReLU has no scale."""
        return True
