"""From inputs to reconstructions in training: with all latents, or with the active ones only."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from sparsact.kernels import Entries, csr_linear
from sparsact.kernels.triton import support
from sparsact.sae.sae_model import SparseAutoencoder


class Code(NamedTuple):
    """The result of one forward.

    Pre-activations and latents are matrices (batch, d_sae), or on the sparse path the entries
    that pass the threshold or that it learns from, the same ones in both.

    Attributes:
        rebuilt: (batch, d_out), in the scale of training.
        l0: mean number of active latents.
        fired: (d_sae,) bool: latents that were active anywhere in the batch.
        pre: pre-activations, or None if a selection never stored them.
        latents: the latents, or None in the same case.
        active: the latents that can be non-zero, as :class:`SparseEncoding` has them; None on the
            dense path, where `latents` is the matrix.
    """

    rebuilt: Tensor
    l0: Tensor
    fired: Tensor
    pre: Tensor | Entries | None
    latents: Tensor | Entries | None
    active: Entries | tuple[Tensor, Tensor] | None = None


def encode(sae: SparseAutoencoder, centered: Tensor, sparse: bool) -> Code:
    """Encode and decode, with the sparse kernels if `sparse`. Both give the same numbers.

    Under autocast the sparse kernels stay in float32, which is still faster. Only topk selects
    in bfloat16; the selected values are then computed again in float32.
    """
    if not sparse:
        return _encode_dense(sae, sae.encoder(centered))
    device = centered.device.type
    select_dtype = torch.bfloat16 if torch.is_autocast_enabled(device) else None
    with torch.autocast(device, enabled=False):
        return _encode_sparse(sae, centered, select_dtype)


def prefix_error(sae: SparseAutoencoder, code: Code, target: Tensor, size: int) -> Tensor:
    """The mean squared error of reconstructing with the first `size` latents alone: a scalar."""
    if code.active is None:
        assert isinstance(code.latents, Tensor)
        rebuilt = code.latents[:, :size] @ sae.W_dec[:size] + sae.b_dec
    else:
        rebuilt = csr_linear(_first(code.active, size), sae.W_dec, sae.b_dec)
    return nn.functional.mse_loss(rebuilt.float(), target.float())


def _first(active: Entries | tuple[Tensor, Tensor], size: int) -> Entries | tuple[Tensor, Tensor]:
    """The entries with those of other latents than the first set to 0."""
    if isinstance(active, Entries):
        return active._replace(values=active.values * (active.columns < size))
    values, indices = active
    return values * (indices < size), indices


def can_be_sparse(sae: SparseAutoencoder) -> bool:
    """Whether the sparse kernels can be used: in float32 on a CPU, or a GPU with Triton.

    On a GPU, only for kinds whose number of active latents is known: the host would have to wait
    for that of the others.
    """
    weight, kind = sae.W_dec, sae.kind
    if weight.dtype != torch.float32 or not kind.has_sparse_encoder():
        return False
    if weight.device.type == "cuda":
        return kind.keeps_k_per_input and support.is_usable(weight.device, weight.dtype)
    return weight.device.type == "cpu"


def _encode_dense(sae: SparseAutoencoder, pre: Tensor) -> Code:
    latents = sae.activation(pre)
    active = latents.detach() != 0
    return Code(sae.reconstruct(latents), active.sum(1).float().mean(), active.any(0), pre, latents)


def _encode_sparse(
    sae: SparseAutoencoder, centered: Tensor, select_dtype: torch.dtype | None
) -> Code:
    active, pre, latents = sae.kind.encode_sparse(sae.encoder, centered, select_dtype)
    rebuilt = csr_linear(active, sae.W_dec, sae.b_dec)
    values, columns = (active.values, active.columns) if isinstance(active, Entries) else active
    return Code(rebuilt, *_activity(values, columns, rebuilt, sae), pre, latents, active)


def _activity(
    values: Tensor, columns: Tensor, rows: Tensor, sae: SparseAutoencoder
) -> tuple[Tensor, Tensor]:
    """The mean number of active entries per row, and which latents (d_sae,) have one."""
    active = (values.detach() != 0).flatten()
    none = torch.zeros(sae.config.d_sae, device=active.device)
    counts = none.index_add_(0, columns.flatten().int(), active.float())
    return active.sum() / max(len(rows), 1), counts > 0
