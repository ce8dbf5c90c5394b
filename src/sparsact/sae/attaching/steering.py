"""Steering a model along directions of a dictionary."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.hooks import Removable, Taps, check_hookable
from sparsact.sae.attaching.attach import check_autoencoder
from sparsact.sae.attaching.attached_site import latent_indices
from sparsact.sae.attaching.token_mask import TokenMask
from sparsact.sae.data.places import Place, one_place
from sparsact.sae.row_norms import ROW_NORMS
from sparsact.sae.sae_model import SparseAutoencoder


class Steering(Removable):
    """Adds a direction to the output of a module, until it is removed."""

    def __init__(self, model: nn.Module, place: Place, shift: "_Shift", skip: int) -> None:
        self._tokens = TokenMask(model)
        self._shift, self._skip = shift, skip
        self._taps = Taps({place.name: place.module}, self._steered, on=place.site)

    def remove(self) -> None:
        """Stop steering."""
        self._taps.remove()
        self._tokens.remove()

    def _steered(self, name: str, activation: Tensor) -> Tensor:
        steered = activation + self._shift(name, activation)
        counts = self._tokens.counts(activation, self._skip)
        return steered if counts is None else torch.where(counts[..., None], steered, activation)


def steer(
    model: nn.Module,
    sae: SparseAutoencoder,
    strengths: Mapping[int, float],
    *,
    layer: str | None = None,
    skip: int | None = None,
    check: bool = True,
) -> Steering:
    """Add multiples of dictionary directions to the output of a layer, in a ``with`` block.

    The activations are not encoded: ``x + Σ strength·direction``, at every position that counts.

    Args:
        model: any model.
        sae: an autoencoder, or a transcoder, for that layer.
        strengths: index of a latent → what is added to it, in units of the latent.
        layer: name of the module. None: the one on whose output the autoencoder was trained.
        skip: leading tokens of each text that are not steered. None: as it was trained.
        check: whether to refuse a model or layer on which the autoencoder was not trained.

    Returns:
        a context manager; ``remove`` ends the steering, too.

    Raises:
        InputError: a ValueError: the layer is not recorded and not given, or there is no such
            layer; no such latent; a strength that is not finite; a model or layer on which the
            autoencoder was not trained, with `check`. In a forward: activations of another width.

    Example:
        >>> from sparsact.sae import SAEConfig
        >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
        >>> sae = SparseAutoencoder(SAEConfig(d_in=4, d_sae=16, k=2))
        >>> x = torch.randn(5, 3)
        >>> with steer(model, sae, {7: 2.0}, layer="1"):
        ...     steered = model(x)
        >>> torch.allclose(steered - model(x), 2 * sae.W_dec[7], atol=1e-6)
        True
    """
    trained = None if sae.trained_on is None else sae.trained_on.layer
    if layer is None and trained not in dict(model.named_modules()):
        known = f" ({trained!r} is no module of this model)" if trained else ""
        raise InputError(f"the layer of this autoencoder is not recorded{known}: set layer=")
    check_hookable(model)
    place = one_place(model, layer or str(trained))
    own_skip = check_autoencoder(model, place, sae, check)
    return Steering(model, place, _Shift(sae, strengths), own_skip if skip is None else skip)


class _Shift:
    """What is added to an activation."""

    def __init__(self, sae: SparseAutoencoder, strengths: Mapping[int, float]) -> None:
        self.normalize = sae.config.normalize
        indices = latent_indices(strengths, sae)
        values = torch.tensor([float(value) for value in strengths.values()], dtype=torch.float64)
        if not bool(values.isfinite().all()):
            raise InputError(f"strengths= must be finite, got {values.tolist()}")
        rows = sae.W_dec.detach()[indices.to(sae.W_dec.device)]
        self.direction = values.to(rows) @ rows / sae.scale_out

    def __call__(self, name: str, activation: Tensor) -> Tensor:
        """(…, d_out), or one direction for all positions."""
        if activation.shape[-1] != len(self.direction):
            raise InputError(
                f"{name!r} gives activations of width {activation.shape[-1]}; the autoencoder "
                f"needs {len(self.direction)}"
            )
        direction = self.direction.to(activation)
        if self.normalize == "none":
            return direction
        return direction * ROW_NORMS[self.normalize](activation).scale
