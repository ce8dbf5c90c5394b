"""The gated kind: which latents are active, and how strongly, is decided apart."""

import torch
from torch import Tensor, nn

from sparsact.kernels import Entries, csr_linear
from sparsact.penalties import L1
from sparsact.sae.kinds.above_level import encode_above
from sparsact.sae.kinds.kind import ForeignTensors, Kind, KindOptions, SparseEncoding, level_for
from sparsact.sae.kinds.sparsity_term import SparsityTerm, values_of


class GatedReLU(nn.Module):
    """``1[p > 0]·relu(exp(r)·p + b)`` for pre-activations p, with r and b per latent.

    The first factor is the gate, the second the magnitude. A penalty on the gate does not shrink
    the magnitude. With r = b = 0 this is relu.

    Args:
        d_sae: number of latents.

    Shape:
        (…, d_sae), returned unchanged.

    Gradient:
        exact for the magnitude. The gate has none: it learns from a penalty on relu(p) and from
        the reconstruction with relu(p).

    Example:
        >>> GatedReLU(2)(torch.tensor([[-1.0, 2.0]])).tolist()
        [[0.0, 2.0]]

    Source:
        Rajamanoharan et al., "Improving Dictionary Learning with Gated Sparse Autoencoders"
        (2024), eqs. 6-8. There the magnitude's bias is added before the gate's:
        b = b_mag − exp(r)·b_gate.
    """

    def __init__(self, d_sae: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(d_sae))
        self.bias = nn.Parameter(torch.zeros(d_sae))

    def forward(self, pre: Tensor) -> Tensor:
        """The latents for pre-activations `pre`."""
        return _gated(pre, self.log_scale.exp(), self.bias)

    def threshold(self) -> Tensor:
        """(d_sae,): what a pre-activation must exceed for its latent to be active."""
        return (-self.bias / self.log_scale.exp()).clamp(min=0)

    def at(self, pre: Tensor, columns: Tensor) -> Tensor:
        """The values of the latents `columns` for their pre-activations, both (entries,)."""
        return _gated(pre, self.log_scale.exp()[columns], self.bias[columns])


def _gated(pre: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return torch.where(pre <= 0, torch.zeros_like(pre), torch.relu(scale * pre + bias))


class GatedKind(Kind[GatedReLU]):
    """A gate decides which latents are active; an L1 penalty on the gate makes them few.

    Source:
        Rajamanoharan et al., "Improving Dictionary Learning with Gated Sparse Autoencoders"
        (2024).
    """

    name = "gated"
    summary = "what a gate lets through, with an L1 penalty on the gate"
    module_type = GatedReLU
    saelens_reads = ("gated",)
    saelens_writes = "gated"
    saelens_bias = "b_gate"

    @classmethod
    def make_module(cls, options: KindOptions) -> nn.Module:
        """A gate that starts as relu."""
        return GatedReLU(options.d_sae)

    def penalty(self) -> SparsityTerm:
        """L1 on the gate: the positive part of the pre-activations."""
        return _GateTerm(L1(1.0))

    def extra_loss(
        self, pre: Tensor | Entries, target: Tensor, dictionary: Tensor, bias: Tensor
    ) -> Tensor:
        """The error of reconstructing with the gate; the decoder does not learn from it.

        Source:
            Rajamanoharan et al. (2024), eq. 9.
        """
        if isinstance(pre, Entries):  # they passed the gate, so all are positive
            rebuilt = csr_linear(pre, dictionary, bias)
        else:
            rebuilt = pre.relu() @ dictionary + bias
        return (target - rebuilt).float().square().mean()

    def has_sparse_encoder(self) -> bool:
        """A closed gate has no gradient."""
        return True

    def encode_sparse(
        self, encoder: nn.Linear, centered: Tensor, select_dtype: torch.dtype | None
    ) -> SparseEncoding:
        """The pre-activations whose gate is open."""
        return encode_above(encoder, centered, 0.0, self.activation.at)

    def can_set_l0(self) -> bool:
        """The bias sets it."""
        return True

    def set_l0_(self, pre: Tensor, target: float, bias: Tensor) -> None:
        """Shift the bias, and with it the gate."""
        bias.sub_(level_for(pre - self.activation.threshold(), target))

    def let_pass_(self, latents: Tensor, pre: Tensor) -> None:
        """Let the magnitude follow the gate."""
        self.activation.log_scale[latents] = 0
        self.activation.bias[latents] = 0

    def rescale_(self, factor: Tensor) -> bool:
        """Scale the bias of the magnitude."""
        if factor.numel() not in (1, self.activation.bias.numel()):
            return False
        self.activation.bias.mul_(factor)
        return True

    def saelens_tensors(self, bias: Tensor) -> dict[str, Tensor]:
        """Gate and magnitude, each with a bias of its own."""
        scale = self.activation.log_scale.float()
        magnitude = self.activation.bias.float() + scale.exp() * bias
        return {"b_gate": bias, "b_mag": magnitude, "r_mag": scale}

    def load_saelens_(self, tensors: ForeignTensors, bias: Tensor) -> None:
        """The magnitude's scale and bias."""
        self.activation.log_scale.copy_(tensors.take("r_mag", len(bias)))
        shift = self.activation.log_scale.exp() * bias
        self.activation.bias.copy_(tensors.take("b_mag", len(bias)) - shift)


class _GateTerm(SparsityTerm):
    """A penalty on the positive part of the pre-activations."""

    def values(self, pre: Tensor | Entries, latents: Tensor | Entries) -> Tensor:
        """The positive part of the pre-activations."""
        return values_of(pre).relu()
