"""What training minimises: reconstruction, sparsity, and the auxiliary terms."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sparsact.functional import topk
from sparsact.kernels import Entries, csr_linear
from sparsact.sae.code import Code, encode, serves
from sparsact.sae.gated import GatedReLU
from sparsact.sae.kinds import SparsityTerm
from sparsact.sae.model import SparseAutoencoder


class LossParts(NamedTuple):
    """The loss of one batch and what it is made of; all scalars but the last two.

    Attributes:
        total: what is minimised.
        mse: mean squared error, in the scale of training.
        variance: mean squared deviation of the targets from their mean over the batch.
        penalty: the kind's penalty per input, before its coefficient.
        aux: the auxiliary loss, before its coefficient.
        l0: mean number of latents that are not zero.
        fired: (d_sae,) bool: latents that were active in the batch.
        center: (d_out,): the targets' mean over the batch.
    """

    total: Tensor
    mse: Tensor
    variance: Tensor
    penalty: Tensor
    aux: Tensor
    l0: Tensor
    fired: Tensor
    center: Tensor


class SAELoss(nn.Module):
    """The training objective as a module, so that DDP and FSDP can wrap it.

    ``mse + coefficient·penalty + aux_coefficient·aux``, on inputs and targets in the scale of
    training; a gated kind adds the mean squared error of reconstructing with its gate, which is
    how the gate learns what to let through.

    Args:
        sae: the autoencoder.
        term: its penalty, or None.
        aux_k: dead latents in the auxiliary loss.
        aux_coefficient: of that loss.
        mean_over_processes: of a tensor without gradient; by default there is one process.
    """

    def __init__(
        self,
        sae: SparseAutoencoder,
        term: SparsityTerm | None,
        aux_k: int,
        aux_coefficient: float,
        mean_over_processes: Callable[[Tensor], Tensor] = lambda tensor: tensor,
    ) -> None:
        super().__init__()
        self.sae = sae
        self.term = term
        self.aux_k = aux_k
        self.aux_coefficient = aux_coefficient
        self.mean_over_processes = mean_over_processes

    def forward(
        self, x: Tensor, target: Tensor, coefficient: float, dead: Tensor, sparse: bool
    ) -> LossParts:
        """The loss on a batch.

        Args:
            x: (batch, d_in), raw.
            target: (batch, d_out), raw.
            coefficient: of the penalty.
            dead: (d_sae,) bool: latents that count as dead.
            sparse: compute with the active latents alone.
        """
        sae = self.sae
        wanted = target * sae.scale_out
        centered = sae.centered(x * sae.scale_in)
        code = encode(sae, centered, sparse and serves(sae, self.term))
        mse = nn.functional.mse_loss(code.rebuilt.float(), wanted.float())
        penalty = self._penalty(code, mse)
        center = wanted.mean(0)
        aux = self._aux(centered, wanted, code.rebuilt, dead)
        return LossParts(
            total=mse
            + coefficient * penalty
            + self.aux_coefficient * aux
            + self._gate_error(code, wanted),
            mse=mse.detach(),
            variance=(wanted - center).float().square().mean(),
            penalty=penalty.detach(),
            aux=aux.detach(),
            l0=code.l0,
            fired=code.fired,
            center=center,
        )

    def _penalty(self, code: Code, mse: Tensor) -> Tensor:
        if self.term is None or code.pre is None or code.latents is None:
            return mse.new_zeros(())
        return self.term(code.pre, code.latents) / max(len(code.rebuilt), 1)

    def _aux(self, centered: Tensor, wanted: Tensor, rebuilt: Tensor, dead: Tensor) -> Tensor:
        """How well the strongest dead latents explain the residual, as a share of its size.

        Source:
            Gao et al., "Scaling and evaluating sparse autoencoders" (2024), appendix A.2. The
            residual is detached, so that the latents move towards it and not it towards them;
            the inputs of the dead are not: the encoder learns too.
        """
        if not self.aux_k or not bool(dead.any()):
            return wanted.new_zeros((), dtype=torch.float32)
        residual = (wanted - rebuilt).detach()
        encoder = self.sae.encoder
        pre = nn.functional.linear(centered, encoder.weight[dead], encoder.bias[dead])
        explained = topk(pre, self.aux_k) @ self.sae.W_dec[dead]
        size = self.mean_over_processes(residual.float().square().mean())
        tiny = torch.finfo(torch.float32).tiny
        return (explained - residual).float().square().mean() / size.clamp(min=tiny)

    def _gate_error(self, code: Code, wanted: Tensor) -> Tensor | float:
        """The error of the gate's own values through a decoder that does not learn from it.

        Source:
            Rajamanoharan et al., "Improving Dictionary Learning with Gated Sparse Autoencoders"
            (2024), eq. 9.
        """
        if not isinstance(self.sae.activation, GatedReLU) or code.pre is None:
            return 0.0
        weight, bias = self.sae.W_dec.detach(), self.sae.b_dec.detach()
        if isinstance(code.pre, Entries):  # what the gate lets through: all is positive
            rebuilt = csr_linear(code.pre, weight, bias)
        else:
            rebuilt = code.pre.relu() @ weight + bias
        return (wanted - rebuilt).float().square().mean()
