"""The largest pre-activations of a batch, and one running threshold at inference."""

import torch
from torch import Tensor, nn

from sparsact.kernels import Entries, sparse_grad_linear
from sparsact.nn import BatchTopK
from sparsact.sae.kinds.kind import (
    ForeignTensors,
    Kind,
    KindOptions,
    SparseEncoding,
    level_for,
)
from sparsact.sae.kinds.sparsity_term import SparsityTerm


class BatchTopKKind(Kind[BatchTopK]):
    """A batch of B inputs keeps its k·B largest pre-activations, as far as they are positive.

    In eval mode latents have one common threshold, a running mean of the smallest value kept.

    Source:
        Bussmann et al., "BatchTopK Sparse Autoencoders" (2024).
    """

    name = "batch_topk"
    summary = "the k·B largest of a batch of B; one running threshold at inference"
    module_type = BatchTopK
    selects = True
    saelens_reads = ("batchtopk", "matryoshka_batchtopk")
    saelens_writes = "jumprelu"
    saelens_writes_transcoder = "jumprelu_transcoder"

    @classmethod
    def make_module(cls, options: KindOptions) -> nn.Module:
        """A selection of ``options.k`` latents per input on average."""
        return BatchTopK(options.k)

    def has_sparse_encoder(self) -> bool:
        """Its gradients are sparse; the forward is dense."""
        return True

    def sparse_encoder_supports(self, term: SparsityTerm | None) -> bool:
        """Pre-activations and latents are matrices, so every penalty works."""
        return True

    def encode_sparse(
        self, encoder: nn.Linear, centered: Tensor, select_dtype: torch.dtype | None
    ) -> SparseEncoding:
        """The rows share a level, which is known only when all pre-activations are."""
        pre = sparse_grad_linear(centered, encoder.weight, encoder.bias)
        latents = self.activation(pre)
        zeros = torch.zeros(latents.shape[1])
        active = Entries(*torch.ops.sparsact.threshold_compress(latents, zeros))
        return SparseEncoding(active, pre, latents)

    def can_set_l0(self) -> bool:
        """By the running threshold."""
        return True

    def set_l0_(self, pre: Tensor, target: float, bias: Tensor) -> None:
        """Set the running threshold, at least to 0."""
        self.activation.running_threshold.copy_(level_for(pre, target).clamp(min=0))

    def selection_level(self, pre: Tensor) -> Tensor:
        """The level for these rows, or the running threshold if that is higher."""
        scores = pre if self.activation.by == "value" else pre.abs()
        level = level_for(scores, self.activation.k)
        return level.max(self.activation.running_threshold).expand(len(pre))

    def join_processes_(self, joined: bool) -> None:
        """The batch is that of all processes."""
        self.activation.joined = joined

    def rescale_(self, factor: Tensor) -> bool:
        """One factor for all latents scales the running threshold."""
        if factor.ndim == 0:
            self.activation.running_threshold.mul_(factor)
        return factor.ndim == 0

    def is_in_saelens(self) -> bool:
        """The threshold of SAELens compares values."""
        return self.activation.by == "value"

    def saelens_tensors(self, bias: Tensor) -> dict[str, Tensor]:
        """The running threshold for every latent, as SAELens saves its own."""
        level = self.activation.running_threshold.float().expand_as(bias)
        return {"b_enc": bias, "threshold": level}

    def load_saelens_(self, tensors: ForeignTensors, bias: Tensor) -> None:
        """The running threshold; it counts as measured."""
        self.activation.running_threshold.copy_(tensors.take("topk_threshold"))
        self.activation.num_batches_tracked.fill_(1)
