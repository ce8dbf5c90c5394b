"""The loss of an autoencoder through the model that it is spliced into."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError, unknown
from sparsact.hooks import Site, Taps, first_tensor
from sparsact.sae.data.places import Place, one_place
from sparsact.sae.sae_model import SparseAutoencoder
from sparsact.text import Tokens


class EndToEndLoss(NamedTuple):
    """What :func:`end_to_end_loss` computes.

    Attributes:
        loss: scalar: KL divergence or cross-entropy, in nats per predicted token.
        latents: (kept tokens, d_sae), for a penalty.
        mse: scalar: the squared error of the reconstruction, relative to that of the mean.
    """

    loss: Tensor
    latents: Tensor
    mse: Tensor


def end_to_end_loss(
    model: nn.Module,
    layer: str,
    sae: SparseAutoencoder,
    tokens: Tokens,
    *,
    kind: Literal["kl", "ce"] = "kl",
    site: Site = "output",
) -> EndToEndLoss:
    """How a model predicts with the reconstruction in one layer, as a loss to train on.

    ``KL(model ‖ spliced model)``, or the cross-entropy of the spliced model. Positions that do not
    count keep their activation.

    Args:
        model: takes ``input_ids`` and ``attention_mask``, returns logits (rows, length, words).
            Call ``requires_grad_(False)`` on it, so that only the autoencoder learns.
        layer: name of the module, or of a hook of TransformerLens.
        sae: an autoencoder of the layer's width, in training mode.
        tokens: a batch of text.
        kind: ``"kl"`` or ``"ce"``.
        site: whether the module's output is replaced, or its input.

    Returns:
        the loss, the latents and the error of the reconstruction, all with gradient.

    Gradient:
        exact, through the rest of the model.

    Raises:
        InputError: a ValueError: another kind; no token to predict; no such layer, or one of
            another width, or a transcoder.

    Example:
        >>> from sparsact.sae import SAEConfig
        >>> from sparsact.text import pack_tokens
        >>> model = torch.nn.Sequential(torch.nn.Embedding(9, 4), torch.nn.Linear(4, 9))
        >>> model.forward = lambda input_ids, attention_mask: torch.nn.Sequential.forward(
        ...     model, input_ids)
        >>> sae = SparseAutoencoder(SAEConfig(d_in=4, d_sae=16, k=2))
        >>> end_to_end_loss(model, "0", sae, pack_tokens([1, 2, 3, 4], 4)).loss.backward()
        >>> sae.W_dec.grad.shape
        torch.Size([16, 4])

    Source:
        Braun et al., "Identifying Functionally Important Features with End-to-End Sparse
        Dictionary Learning" (2024), eq. 3. Their penalty is added by the caller.
    """
    if kind not in ("kl", "ce"):
        raise unknown("kind", kind, ("kl", "ce"))
    if sae.config.is_transcoder:
        raise InputError("a transcoder does not reconstruct its input: it cannot be spliced in")
    predicted = tokens.mask[:, 1:] & tokens.mask[:, :-1]
    if not bool(predicted.any()):
        raise InputError("the text has no token to predict from another")
    place = one_place(model, layer, site)
    splice = _Splice(sae, tokens.kept())
    logits = _logits(model, tokens, place, splice)[:, :-1][predicted].float()
    if kind == "ce":
        loss = nn.functional.cross_entropy(logits, tokens.ids[:, 1:][predicted].to(logits.device))
    else:
        with torch.no_grad():
            unchanged = _logits(model, tokens, place, None)[:, :-1][predicted].float()
        loss = nn.functional.kl_div(
            logits.log_softmax(-1),
            unchanged.log_softmax(-1),
            reduction="batchmean",
            log_target=True,
        )
    return EndToEndLoss(loss, splice.latents, splice.mse)


class _Splice:
    """Replaces the activations of kept positions, and keeps what the loss needs."""

    def __init__(self, sae: SparseAutoencoder, kept: Tensor) -> None:
        self.sae, self.kept = sae, kept
        self.latents = self.mse = torch.zeros(())

    def __call__(self, name: str, activation: Tensor) -> Tensor:
        if activation.shape != (*self.kept.shape, self.sae.config.d_in):
            raise InputError(
                f"{name!r} gives activations of shape {tuple(activation.shape)}; for this "
                f"autoencoder and text they must be {(*self.kept.shape, self.sae.config.d_in)}"
            )
        kept = self.kept.to(activation.device)
        x = activation[kept]
        self.latents = self.sae.encode(x)
        rebuilt = self.sae.rebuild(self.latents, x)
        error = (rebuilt - x).float().square().sum()
        self.mse = error / (x - x.mean(0)).float().square().sum()
        return activation.masked_scatter(kept[..., None], rebuilt.to(activation))


def _logits(model: nn.Module, tokens: Tokens, place: Place, splice: _Splice | None) -> Tensor:
    device = next(model.parameters()).device
    ids, mask = tokens.ids.to(device), tokens.mask.to(device)
    taps = Taps(
        {} if splice is None else {place.name: place.module}, splice or _same, on=place.site
    )
    try:
        output = model(input_ids=ids, attention_mask=mask.long())
    finally:
        taps.remove()
    logits = getattr(output, "logits", None)
    logits = first_tensor(output) if logits is None else logits
    if logits is None or logits.shape[:2] != ids.shape:
        raise InputError("the model returns no logits (rows, length, words)")
    return logits


def _same(name: str, activation: Tensor) -> None:
    """Replace nothing."""
