"""The k largest pre-activations of each input."""

from typing import Any

import torch
from torch import Tensor, nn

from sparsact.kernels import linear_topk
from sparsact.nn import TopK
from sparsact.sae.kinds.kind import Kind, KindOptions, SparseEncoding
from sparsact.sae.kinds.sparsity_term import SparsityTerm


class TopKKind(Kind[TopK]):
    """Each input keeps its k largest pre-activations, as far as they are positive.

    Source:
        Gao et al., "Scaling and evaluating sparse autoencoders" (2024).
    """

    name = "topk"
    summary = "the k largest of each input"
    module_type = TopK
    selects = True
    keeps_k_per_input = True
    saelens_reads = ("topk",)
    saelens_writes = "topk"

    @classmethod
    def make_module(cls, options: KindOptions) -> nn.Module:
        """A selection of ``options.k`` latents."""
        return TopK(options.k)

    def has_sparse_encoder(self) -> bool:
        """The kernel selects by value only."""
        return self.activation.by == "value"

    def sparse_encoder_supports(self, term: SparsityTerm | None) -> bool:
        """Pre-activations are never stored, so no penalty can be computed from them."""
        return term is None

    def encode_sparse(
        self, encoder: nn.Linear, centered: Tensor, select_dtype: torch.dtype | None
    ) -> SparseEncoding:
        """Select while the pre-activations are computed; their matrix is never written."""
        largest, indices = linear_topk(
            centered, encoder.weight, encoder.bias, self.activation.k, select_dtype=select_dtype
        )
        return SparseEncoding((largest.relu(), indices), None, None)

    def can_set_l0(self) -> bool:
        """By k, whatever it was."""
        return True

    def set_l0_(self, pre: Tensor, target: float, bias: Tensor) -> None:
        """Set the nearest k."""
        self.activation.k = round(target)

    def selection_level(self, pre: Tensor) -> Tensor:
        """The k-th largest of each row."""
        scores = pre if self.activation.by == "value" else pre.abs()
        return scores.topk(self.activation.k, dim=1).values[:, -1]

    def rescale_(self, factor: Tensor) -> bool:
        """One factor for all latents does not change their order."""
        return factor.ndim == 0

    def is_in_saelens(self) -> bool:
        """SAELens selects by value only."""
        return self.activation.by == "value"

    def saelens_settings(self) -> dict[str, Any]:
        """The k."""
        return {"k": self.activation.k, "rescale_acts_by_decoder_norm": False}
