"""An autoencoder made from the tensors of another library."""

from typing import Any

import torch
from torch import Tensor

from sparsact.sae.sae_config import SAEConfig
from sparsact.sae.sae_model import SparseAutoencoder


@torch.no_grad()
def assembled(
    config: SAEConfig,
    encoder: Tensor,
    encoder_bias: Tensor,
    decoder: Tensor,
    decoder_bias: Tensor,
    *,
    subtracts_bias: bool = True,
) -> SparseAutoencoder:
    """An autoencoder with these weights, in eval mode.

    Args:
        config: its sizes and kind.
        encoder: (d_sae, d_in).
        encoder_bias: (d_sae,).
        decoder: (d_sae, d_out).
        decoder_bias: (d_out,).
        subtracts_bias: whether the decoder's bias is subtracted from the input. If not, this is
            folded into the bias of the encoder. Transcoders never subtract it.
    """
    sae = SparseAutoencoder(config)
    if not config.is_transcoder and not subtracts_bias:
        encoder_bias = encoder_bias + encoder @ decoder_bias
    sae.encoder.weight.copy_(encoder)
    sae.encoder.bias.copy_(encoder_bias)
    sae.W_dec.copy_(decoder)
    sae.b_dec.copy_(decoder_bias)
    sae.is_fresh = False
    return sae.eval()


@torch.no_grad()
def set_levels_(sae: SparseAutoencoder, levels: Tensor) -> None:
    """Set the thresholds of a jumprelu. Negative ones count as 0: latents are not negative."""
    module: Any = sae.activation
    module.lambd.copy_(levels.clamp(min=0).expand_as(sae.encoder.bias))
