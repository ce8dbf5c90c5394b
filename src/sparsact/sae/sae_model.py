"""The autoencoder: encoder, any threshold module, decoder."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.sae.geometry import normalize_rows_
from sparsact.sae.kinds import KINDS, CustomKind, Kind, kind_of
from sparsact.sae.row_norms import ROW_NORMS
from sparsact.sae.sae_config import SAEConfig
from sparsact.sae.trained_on import TrainedOn

ENCODER_START = 3**-0.5
"""Initial length of the encoder's rows; the decoder's rows have length 1.

With length 1 the active latents, whose directions overlap, would add up to too much, and training
would first have to undo that. ``nn.Linear`` gives its rows this length.
"""


class SparseAutoencoder(nn.Module):
    """``ŷ = W_decᵀ·z + b_dec`` with latents ``z = threshold(W_enc·(x − b_dec) + b_enc)``.

    A transcoder (``d_out`` is set) reconstructs another tensor than its input, and does not
    subtract b_dec from the input. The scale of the training inputs is part of the module, so
    that it always maps raw activations to raw activations. :meth:`fold_scale_` moves the scale
    into the weights. Autoencoders of other libraries may normalise each input (``normalize``), or
    add ``W_skip·x`` to the prediction of a transcoder (``skip``).

    Args:
        config: sizes and kind.
        activation: a threshold module of your own for ``activation="custom"``. It maps
            (…, d_sae) to the same shape.

    Attributes:
        encoder: ``nn.Linear`` from d_in to d_sae.
        activation: the threshold module.
        W_dec: (d_sae, d_out), the dictionary, with rows of length 1.
        b_dec: (d_out,).
        W_skip: (d_out, d_in), or None without a skip connection.
        scale_in: factor of the inputs before encoding.
        scale_out: factor of the targets in training; outputs are divided by it.
        trained_on: where the activations of its training came from, if that is known. It is
            saved with the autoencoder, and compared with the model that it is used in.
        is_fresh: whether the weights are the initial ones, neither trained nor loaded. Training
            sets the scale and b_dec of a fresh autoencoder; it continues any other as it is.

    Raises:
        InputError: a ValueError: a module is passed with a preset, or missing for ``"custom"``.

    Example:
        >>> sae = SparseAutoencoder(SAEConfig(d_in=4, d_sae=16, activation="topk", k=2))
        >>> latents = sae.encode(torch.randn(5, 4))
        >>> latents.shape, int((latents != 0).sum(1).max()) <= 2
        (torch.Size([5, 16]), True)
    """

    W_skip: nn.Parameter | None
    scale_in: Tensor
    scale_out: Tensor

    def __init__(self, config: SAEConfig, activation: nn.Module | None = None) -> None:
        super().__init__()
        if activation is not None and config.activation != CustomKind.name:
            raise InputError(
                f"the kind {config.activation!r} brings its own threshold module; to use yours, "
                f"set activation={CustomKind.name!r}"
            )
        self.config = config
        self.encoder = nn.Linear(config.d_in, config.d_sae)
        if activation is None:
            activation = KINDS[config.activation].make_module(config)
        self.activation = activation
        self.W_dec = nn.Parameter(torch.randn(config.d_sae, config.width_out))
        self.b_dec = nn.Parameter(torch.zeros(config.width_out))
        skip = nn.Parameter(torch.zeros(config.width_out, config.d_in)) if config.skip else None
        self.register_parameter("W_skip", skip)
        self.register_buffer("scale_in", torch.ones(()))
        self.register_buffer("scale_out", torch.ones(()))
        self.trained_on: TrainedOn | None = None
        self.is_fresh = True
        self.register_load_state_dict_post_hook(_not_fresh)  # type: ignore[no-untyped-call]
        normalize_rows_(self.W_dec)
        nn.init.zeros_(self.encoder.bias)
        if not config.is_transcoder:  # each latent starts with the same direction in both
            self.encoder.weight.data.copy_(ENCODER_START * self.W_dec.data)

    @property
    def kind(self) -> Kind[Any]:
        """The kind of the threshold module, bound to it."""
        return kind_of(self.activation)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct `x` (…, d_in); for a transcoder, predict the target (…, d_out)."""
        return self.rebuild(self.encode(x), x)

    def encode(self, x: Tensor) -> Tensor:
        """The latents (…, d_sae) of activations `x` (…, d_in), in the scale of training."""
        latents: Tensor = self.activation(self.pre_activations(self.scaled(x)))
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        """The reconstruction (…, d_out) from latents (…, d_sae).

        With a normalisation or a skip connection this is not all: see :meth:`rebuild`.
        """
        return self.reconstruct(latents) / self.scale_out

    def rebuild(self, latents: Tensor, x: Tensor) -> Tensor:
        """The reconstruction (…, d_out) of activations `x` (…, d_in) from latents (…, d_sae).

        The same as :meth:`decode` unless each input is normalised, or there is a skip connection.
        """
        rebuilt = self.decode(latents)
        if self.config.normalize != "none":
            _, scale, shift = ROW_NORMS[self.config.normalize](x.to(rebuilt.dtype))
            return rebuilt * scale + shift
        if self.W_skip is not None:
            return rebuilt + x.to(rebuilt.dtype) @ self.W_skip.T
        return rebuilt

    def scaled(self, x: Tensor) -> Tensor:
        """Raw activations in the scale of training and the dtype of the weights."""
        x = x.to(self.W_dec.dtype)
        if self.config.normalize != "none":
            x = ROW_NORMS[self.config.normalize](x).rows
        return x * self.scale_in

    def pre_activations(self, scaled: Tensor) -> Tensor:
        """The input of the threshold module, for inputs that are already scaled."""
        return self.encoder(self.centered(scaled))  # type: ignore[no-any-return]

    def centered(self, scaled: Tensor) -> Tensor:
        """Scaled inputs as the encoder reads them."""
        return scaled if self.config.is_transcoder else scaled - self.b_dec

    def skipped(self, x: Tensor) -> Tensor | float:
        """What the skip connection adds for raw `x`, in the scale of training; 0 without one."""
        if self.W_skip is None:
            return 0.0
        return x.to(self.W_skip.dtype) @ self.W_skip.T * self.scale_out

    def reconstruct(self, latents: Tensor) -> Tensor:
        """The reconstruction in the scale of training."""
        return latents @ self.W_dec + self.b_dec

    def fold_scale_(self) -> "SparseAutoencoder":
        """Move the scale into biases and thresholds, in place. The outputs do not change.

        The dictionary keeps its unit rows, and latents are then in units of the raw activations.
        If the thresholds are unknown or fixed, nothing changes: fixed thresholds are not saved
        with the weights.
        """
        one = torch.ones_like(self.scale_in)
        return self.rescale_(one, one)

    @torch.no_grad()
    def rescale_(self, scale_in: Tensor, scale_out: Tensor) -> "SparseAutoencoder":
        """Set another scale, in place. Outputs do not change; latents change their unit.

        Args:
            scale_in: scalar. Equal to `scale_out` unless this is a transcoder, because b_dec is
                subtracted from inputs and added to outputs.
            scale_out: scalar.
        """
        factor = scale_out / self.scale_out
        if self.kind.rescale_(factor):
            self.encoder.weight.mul_(factor * self.scale_in / scale_in)
            self.encoder.bias.mul_(factor)
            self.b_dec.mul_(factor)
            self.scale_in.copy_(scale_in)
            self.scale_out.copy_(scale_out)
        return self

    @torch.no_grad()
    def unit_rows_(self) -> "SparseAutoencoder":
        """Move the lengths of the dictionary's rows into the encoder. Outputs do not change.

        Raises:
            InputError: a ValueError: the rows differ in length, and latents compete or their
                thresholds are unknown, so that other latents would become active.
        """
        length = torch.linalg.vector_norm(self.W_dec, dim=1)
        if not torch.allclose(length, torch.ones_like(length), atol=1e-3):
            if not self.kind.rescale_(length):
                raise InputError(
                    f"the dictionary's rows are {float(length.min()):.3g} to "
                    f"{float(length.max()):.3g} long, but training keeps them at length 1; that "
                    f"would change which latents {type(self.activation).__name__} lets through"
                )
            self.encoder.weight.mul_(length[:, None])
            self.encoder.bias.mul_(length)
            normalize_rows_(self.W_dec)
        return self

    def extra_repr(self) -> str:
        """Sizes and kind."""
        width = f", d_out={self.config.d_out}" if self.config.is_transcoder else ""
        return f"d_in={self.config.d_in}, d_sae={self.config.d_sae}{width}"


def _not_fresh(sae: SparseAutoencoder, _: object) -> None:
    sae.is_fresh = False


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """A block in which modules are in eval mode; afterwards each has its old mode again."""
    modes = [(part, part.training) for module in modules for part in module.modules()]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
