"""An autoencoder in the form that SAEBench evaluates."""

import copy
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.sae.sae_model import SparseAutoencoder


@dataclass
class SAEBenchSettings:
    """The settings that SAEBench reads from an autoencoder, by its names."""

    model_name: str
    d_in: int
    d_sae: int
    hook_layer: int
    hook_name: str
    context_size: int | None = None
    hook_head_index: int | None = None
    architecture: str = ""
    apply_b_dec_to_input: bool = True
    finetuning_scaling_factor: bool = False
    prepend_bos: bool = True
    normalize_activations: str = "none"
    dtype: str = "float32"
    device: str = "cpu"
    dataset_path: str = ""
    training_tokens: int = -1

    def to_dict(self) -> dict[str, Any]:
        """All settings."""
        return asdict(self)


class SAEBenchAutoencoder(nn.Module):
    """An autoencoder with the attributes that SAEBench reads. :func:`to_saebench` makes it."""

    def __init__(self, sae: SparseAutoencoder, settings: SAEBenchSettings) -> None:
        super().__init__()
        self.sae = sae
        self.W_enc = nn.Parameter(sae.encoder.weight.detach().T.clone())
        self.W_dec = nn.Parameter(sae.W_dec.detach().clone())
        self.b_enc = nn.Parameter(sae.encoder.bias.detach().clone())
        self.b_dec = nn.Parameter(sae.b_dec.detach().clone())
        self.cfg = settings

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.W_dec.device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights."""
        return self.W_dec.dtype

    def encode(self, x: Tensor) -> Tensor:
        """The latents (…, d_sae)."""
        return self.sae.encode(x)

    def decode(self, latents: Tensor) -> Tensor:
        """The reconstruction (…, d_in)."""
        return self.sae.decode(latents)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct (…, d_in)."""
        return self.decode(self.encode(x))


def to_saebench(
    sae: SparseAutoencoder, model_name: str, hook_layer: int, hook_name: str | None = None
) -> SAEBenchAutoencoder:
    """A copy in the form of SAEBench's ``BaseSAE``, for its evaluations.

    SAEBench itself is not imported. ``run_eval(config, [("name", to_saebench(…))], …)`` takes it.

    Args:
        sae: not changed. Its scale is folded into the weights of the copy.
        model_name: by which TransformerLens finds the model.
        hook_layer: number of the block.
        hook_name: by default ``blocks.N.hook_resid_post``.

    Returns:
        a module with ``encode``, ``decode``, ``W_enc``, ``W_dec``, ``b_enc``, ``b_dec``, ``cfg``,
        ``device`` and ``dtype``, in eval mode.

    Raises:
        InputError: a ValueError: a transcoder, or an autoencoder that normalises each input, which
            ``decode`` cannot undo.

    Example:
        >>> from sparsact.sae import SAEConfig
        >>> sae = SparseAutoencoder(SAEConfig(d_in=8, d_sae=32, k=4))
        >>> to_saebench(sae, "pythia-70m-deduped", 3).cfg.hook_name
        'blocks.3.hook_resid_post'
    """
    if sae.config.is_transcoder or sae.config.normalize != "none":
        raise InputError("SAEBench evaluates autoencoders without a normalisation of each input")
    folded = copy.deepcopy(sae).fold_scale_().eval()
    config = sae.config
    settings = SAEBenchSettings(
        model_name,
        config.d_in,
        config.d_sae,
        hook_layer,
        hook_name or f"blocks.{hook_layer}.hook_resid_post",
        architecture=config.activation,
        dtype=str(sae.W_dec.dtype).removeprefix("torch."),
    )
    return SAEBenchAutoencoder(folded, settings)
