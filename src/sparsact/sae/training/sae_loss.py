"""The training objective: reconstruction, sparsity and auxiliary terms."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sparsact.functional import topk
from sparsact.sae.kinds import SparsityTerm
from sparsact.sae.sae_model import SparseAutoencoder
from sparsact.sae.training.encoding import Code, encode, prefix_error

OwnLoss = Callable[[SparseAutoencoder, Tensor, Tensor, Tensor], Tensor]
"""A term of the loss: a scalar from the autoencoder, the raw inputs (batch, d_in), and the targets
and their reconstruction (batch, d_out) in the scale of training."""


class LossParts(NamedTuple):
    """The loss of one batch and its parts. All are scalars except the last two.

    Attributes:
        total: the loss.
        mse: mean squared error, in the scale of training.
        variance: mean squared deviation of the targets from their mean over the batch.
        penalty: the penalty per input, without its coefficient.
        aux: the auxiliary loss, without its coefficient.
        l0: mean number of active latents.
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

    ``mse + coefficient·penalty + aux_coefficient·aux + extra_loss + own_loss``, for inputs and
    targets in the scale of training. ``extra_loss`` is that of the kind; it is 0 for most. With
    prefixes, ``mse`` is the mean of the errors of all prefixes and of all latents.

    Args:
        sae: the autoencoder.
        term: its penalty, or None.
        aux_k: number of dead latents in the auxiliary loss.
        aux_coefficient: coefficient of the auxiliary loss.
        prefixes: numbers of latents whose reconstruction counts by itself.
        own_loss: a further term of the user.
        mean_over_processes: returns the mean over all processes of a tensor without gradient.
            The default is for one process.
    """

    def __init__(
        self,
        sae: SparseAutoencoder,
        term: SparsityTerm | None,
        aux_k: int,
        aux_coefficient: float,
        prefixes: Sequence[int] = (),
        own_loss: OwnLoss | None = None,
        mean_over_processes: Callable[[Tensor], Tensor] = lambda tensor: tensor,
    ) -> None:
        super().__init__()
        self.sae = sae
        self.term = term
        self.aux_k = aux_k
        self.aux_coefficient = aux_coefficient
        self.prefixes, self.own_loss = prefixes, own_loss
        self.mean_over_processes = mean_over_processes

    def forward(
        self,
        x: Tensor,
        target: Tensor,
        coefficient: float,
        dead: Tensor,
        sparse: bool,
        power: float = 1.0,
    ) -> LossParts:
        """The loss on a batch.

        Args:
            x: (batch, d_in), raw.
            target: (batch, d_out), raw.
            coefficient: of the penalty.
            dead: (d_sae,) bool: latents that count as dead.
            sparse: compute with the active latents only.
            power: exponent of the penalty.
        """
        sae = self.sae
        target = target * sae.scale_out
        centered = sae.centered(x * sae.scale_in)
        code = encode(sae, centered, sparse and sae.kind.sparse_encoder_supports(self.term))
        # a skip connection predicts the rest
        to_explain = target if sae.W_skip is None else target - sae.skipped(x)
        mse = nn.functional.mse_loss(code.rebuilt.float(), to_explain.float())
        penalty = self._penalty(code, mse, power)
        center = target.mean(0)
        aux = self._aux(centered, to_explain, code.rebuilt, dead)
        return LossParts(
            total=self._nested(code, to_explain, mse)
            + coefficient * penalty
            + self.aux_coefficient * aux
            + self._extra_loss(code, to_explain)
            + self._own_loss(x, target, code, to_explain),
            mse=mse.detach(),
            variance=(target - center).float().square().mean(),
            penalty=penalty.detach(),
            aux=aux.detach(),
            l0=code.l0,
            fired=code.fired,
            center=center,
        )

    def _penalty(self, code: Code, mse: Tensor, power: float) -> Tensor:
        if self.term is None or code.pre is None or code.latents is None:
            return mse.new_zeros(())
        if power != 1:
            return self._annealed(self.term.values(code.pre, code.latents), power, code.rebuilt)
        return self.term(code.pre, code.latents) / max(len(code.rebuilt), 1)

    def _annealed(self, values: Tensor, power: float, rows: Tensor) -> Tensor:
        """Σ|z|^p per input, times a factor without gradient that gives it the value of Σ|z|.

        Source:
            Karvonen et al., "Measuring Progress in Dictionary Learning for Language Model
            Interpretability with Board Game Models" (2024), section 3.2. There the coefficient is
            rescaled at each change of p, from a queue of batches; here from the batch itself.
        """
        sizes = values[values != 0].abs()
        powers = (sizes**power).sum()
        one, other = (self.mean_over_processes(part.detach()) for part in (sizes.sum(), powers))
        tiny = torch.finfo(torch.float32).tiny
        return powers * (one / other.clamp(min=tiny)) / max(len(rows), 1)

    def _nested(self, code: Code, target: Tensor, mse: Tensor) -> Tensor:
        """The mean of the errors of all prefixes and of all latents.

        Source:
            Bussmann et al., "Learning Multi-Level Features with Matryoshka Sparse Autoencoders"
            (2025), eq. 4. There it is the sum; with the mean, other terms keep their weight.
        """
        if not self.prefixes:
            return mse
        errors = [prefix_error(self.sae, code, target, size) for size in self.prefixes]
        return torch.stack([*errors, mse]).mean()

    def _own_loss(
        self, x: Tensor, target: Tensor, code: Code, to_explain: Tensor
    ) -> Tensor | float:
        if self.own_loss is None:
            return 0.0
        return self.own_loss(self.sae, x, target, code.rebuilt + (target - to_explain))

    def _aux(self, centered: Tensor, target: Tensor, rebuilt: Tensor, dead: Tensor) -> Tensor:
        """The error of explaining the residual by dead latents, relative to the residual.

        Source:
            Gao et al., "Scaling and evaluating sparse autoencoders" (2024), appendix A.2. The
            residual is detached: the dead latents move towards it, not the reconstruction
            towards them. Their inputs are not detached, so that the encoder learns, too.
        """
        if not self.aux_k or not bool(dead.any()):
            return target.new_zeros((), dtype=torch.float32)
        residual = (target - rebuilt).detach()
        encoder = self.sae.encoder
        pre = nn.functional.linear(centered, encoder.weight[dead], encoder.bias[dead])
        explained = topk(pre, self.aux_k) @ self.sae.W_dec[dead]
        size = self.mean_over_processes(residual.float().square().mean())
        tiny = torch.finfo(torch.float32).tiny
        return (explained - residual).float().square().mean() / size.clamp(min=tiny)

    def _extra_loss(self, code: Code, target: Tensor) -> Tensor | float:
        """The kind's own term. It does not train the decoder."""
        if code.pre is None:
            return 0.0
        weight, bias = self.sae.W_dec.detach(), self.sae.b_dec.detach()
        return self.sae.kind.extra_loss(code.pre, target, weight, bias)
