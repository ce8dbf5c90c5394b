"""From inputs to reconstructions in training: with all latents, or with the active ones alone."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from sparsact.kernels import csr_linear, linear_topk, sparse_grad_linear, threshold_compress
from sparsact.nn.gate import JumpReLU
from sparsact.nn.select import BatchTopK, TopK
from sparsact.nn.shrink import Softshrink
from sparsact.sae.gated import GatedReLU
from sparsact.sae.model import SparseAutoencoder

SPARSE_BELOW = 0.02
"""Share of active latents below which the sparse kernels are faster than dense products."""


class Code(NamedTuple):
    """What one forward found.

    Attributes:
        rebuilt: (batch, d_out), in the scale of training.
        l0: mean number of active latents.
        fired: (d_sae,) bool: latents active somewhere in the batch.
        pre: (batch, d_sae) pre-activations, or None where they were never made.
        latents: (batch, d_sae), or None.
    """

    rebuilt: Tensor
    l0: Tensor
    fired: Tensor
    pre: Tensor | None
    latents: Tensor | None


def encode(sae: SparseAutoencoder, centered: Tensor, sparse: bool) -> Code:
    """Encode and decode, by the sparse kernels if `sparse`; both give the same numbers."""
    if not sparse:
        return _dense(sae, sae.encoder(centered))
    if isinstance(sae.activation, TopK):
        return _selected(sae, centered, sae.activation.k)
    pre = sparse_grad_linear(centered, sae.encoder.weight, sae.encoder.bias)
    return _compressed(sae, pre)


def can_be_sparse(sae: SparseAutoencoder) -> bool:
    """Whether the kernels serve here: compiled for float32 on the CPU, outside autocast."""
    weight = sae.W_dec
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and _skips_what_it_stops(sae.activation)
    )


def _skips_what_it_stops(activation: nn.Module) -> bool:
    """Whether what does not pass the threshold has no gradient, or one that is known here."""
    if isinstance(activation, TopK):
        return activation.by == "value"
    if isinstance(activation, JumpReLU):
        return activation.kernel == "rectangle"
    return isinstance(activation, (nn.ReLU, BatchTopK, Softshrink, GatedReLU))


def _dense(sae: SparseAutoencoder, pre: Tensor) -> Code:
    latents = sae.activation(pre)
    active = latents.detach() != 0
    return Code(sae.reconstruct(latents), active.sum(1).float().mean(), active.any(0), pre, latents)


def _selected(sae: SparseAutoencoder, centered: Tensor, k: int) -> Code:
    """The largest k, selected as they are made: the whole matrix is never written."""
    largest, indices = linear_topk(centered, sae.encoder.weight, sae.encoder.bias, k)
    values = largest.relu()
    active = values.detach() != 0
    fired = torch.zeros(sae.config.d_sae, dtype=torch.bool, device=active.device)
    fired[indices[active]] = True
    rebuilt = csr_linear((values, indices), sae.W_dec, sae.b_dec)
    return Code(rebuilt, active.sum(1).float().mean(), fired, None, None)


def _compressed(sae: SparseAutoencoder, pre: Tensor) -> Code:
    """All pre-activations, and from the threshold on what it lets through.

    A learned jump also takes gradients through entries just below it: they come along as zeros.
    """
    latents = sae.activation(pre)
    fired = torch.zeros(sae.config.d_sae, dtype=torch.bool, device=pre.device)
    if isinstance(sae.activation, JumpReLU):
        entries = _at(latents, _reached(sae.activation, pre.detach()))
        active = entries.values().detach() != 0
        columns = entries.col_indices()[active]
    else:
        entries = threshold_compress(latents)
        columns = entries.col_indices()
    fired[columns] = True
    l0 = torch.tensor(len(columns) / max(len(pre), 1))
    return Code(csr_linear(entries, sae.W_dec, sae.b_dec), l0, fired, pre, latents)


def _reached(activation: JumpReLU, pre: Tensor) -> Tensor:
    """The entries from which a jump of rectangular window learns, as CSR."""
    edge = activation.threshold(pre) - activation.bandwidth / 2
    return threshold_compress((pre - edge).clamp_(min=0))


def _at(dense: Tensor, entries: Tensor) -> Tensor:
    """`dense` at the places of `entries`, as CSR."""
    offsets, columns = entries.crow_indices(), entries.col_indices()
    rows = torch.repeat_interleave(offsets.diff().long(), output_size=len(columns))
    values = dense.flatten().gather(0, rows * dense.shape[1] + columns)
    return torch.sparse_csr_tensor(offsets, columns, values, dense.shape, check_invariants=False)
