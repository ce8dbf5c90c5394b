"""A language model with a layer's output replaced by its reconstruction."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sparsact._common.devices import widest_float
from sparsact._common.errors import InputError
from sparsact._common.progress import Progress
from sparsact.hooks import Site, Taps, first_tensor
from sparsact.sae.data.places import Place, one_place
from sparsact.sae.sae_model import SparseAutoencoder, evaluating
from sparsact.sae.trained_on import TrainedOn
from sparsact.text import Tokens

Replacement = Callable[[Tensor], Tensor]
"""Maps activations (n, width) to their replacement, of the same shape."""


@dataclass(frozen=True)
class SpliceMetrics:
    """How a language model predicts with a reconstruction in one layer: means per token, in nats.

    Attributes:
        tokens: number of predicted tokens.
        cross_entropy: of the unchanged model.
        spliced: with the layer's output replaced by its reconstruction.
        zero_ablated: with the layer's output replaced by zeros.
        mean_ablated: with the layer's output replaced by its mean over the text.
        kl: KL(unchanged ‖ spliced) of the predicted distributions.
        zero_kl: KL(unchanged ‖ zero-ablated) of them.
        recovered_of_zero: ``(zero_ablated − spliced) / (zero_ablated − cross_entropy)``, the share
            of the loss from zeros that the reconstruction avoids; 1 for the unchanged model.
        recovered_of_mean: the same relative to `mean_ablated`. This is the stricter measure.
    """

    tokens: int
    cross_entropy: float
    spliced: float
    zero_ablated: float
    mean_ablated: float
    kl: float
    zero_kl: float
    recovered_of_zero: float = field(init=False)
    recovered_of_mean: float = field(init=False)

    def __post_init__(self) -> None:
        for name in ("zero", "mean"):
            ablated = getattr(self, f"{name}_ablated")
            lost = ablated - self.cross_entropy
            share = (ablated - self.spliced) / lost if lost else float("nan")
            object.__setattr__(self, f"recovered_of_{name}", share)


@torch.no_grad()
def evaluate_spliced(
    model: nn.Module,
    layer: str,
    sae: SparseAutoencoder,
    tokens: Tokens,
    *,
    site: Site = "output",
    batch_rows: int = 2,
    progress: Progress | None = None,
    check: bool = True,
) -> SpliceMetrics:
    """Measure how a model predicts text when one layer's output is reconstructed.

    Positions whose activations do not count keep the layer's own output, also under ablation:
    padding and, by default, the BOS, on which autoencoders are not trained. Every token except
    padding is predicted from those before it. There are four forwards per row; one batch is in
    memory at a time.

    Args:
        model: takes ``input_ids`` and ``attention_mask``, returns logits (rows, length, words).
            Its mode is restored.
        layer: name of the module whose first output tensor (rows, length, width) is replaced.
        sae: an autoencoder for activations of that layer.
        tokens: text on which neither the model nor the autoencoder was trained.
        site: whether the module's output is replaced, or its input.
        batch_rows: rows of tokens in a forward.
        progress: called with the rows done, their total over two rounds, and what is being done.
        check: whether to refuse a model or layer on which the autoencoder was not trained.

    Raises:
        InputError: a ValueError: no layer of that name, or several, or of another width than the
            autoencoder; a model or layer on which it was not trained, with `check`; a
            transcoder, which does not reconstruct its input; no token to predict.

    Example:
        >>> from sparsact.text import pack_tokens
        >>> from sparsact.sae import SAEConfig
        >>> model = torch.nn.Sequential(torch.nn.Embedding(9, 4), torch.nn.Linear(4, 9))
        >>> model.forward = lambda input_ids, attention_mask: torch.nn.Sequential.forward(
        ...     model, input_ids)
        >>> sae = SparseAutoencoder(SAEConfig(d_in=4, d_sae=16, k=2))
        >>> evaluate_spliced(model, "0", sae, pack_tokens([1, 2, 3, 4, 5], 3)).tokens
        3
    """
    if sae.config.is_transcoder:
        raise InputError("a transcoder does not reconstruct its input: it cannot be spliced in")
    if not bool(_predicted(tokens.mask).any()):
        raise InputError("the text has no token to predict from another")
    with evaluating(model, sae):
        place = one_place(model, layer, site)
        if check and sae.trained_on is not None:
            sae.trained_on.check(TrainedOn.of(model, place.name, place.site))
        return _Rounds(model, place, sae, tokens, batch_rows, progress).metrics()


class _Rounds:
    """Two rounds over the text: unchanged, spliced and with zeros; then with the mean."""

    def __init__(
        self,
        model: nn.Module,
        place: Place,
        sae: SparseAutoencoder,
        tokens: Tokens,
        batch_rows: int,
        progress: Progress | None,
    ) -> None:
        self.model, self.place, self.sae = model, place, sae
        self.tokens, self.batch_rows, self.progress = tokens, batch_rows, progress
        self.device = next(model.parameters()).device
        self.sum = torch.zeros(sae.config.d_in, dtype=widest_float(self.device), device=self.device)
        self.count = 0

    def metrics(self) -> SpliceMetrics:
        predicted = 0
        dense = spliced = zeros = ablated = kl = zero_kl = 0.0
        for ids, mask, kept in self._batches(first=True):
            unchanged = self._logits(ids, mask, kept, self._observe)
            predicted += int(_predicted(mask).sum())
            dense += _cross_entropy(unchanged, ids, mask)
            logits = self._logits(ids, mask, kept, self._reconstruct)
            spliced += _cross_entropy(logits, ids, mask)
            kl += _divergence(unchanged, logits, mask)
            del logits  # logits take most of the memory: two are held at a time
            logits = self._logits(ids, mask, kept, torch.zeros_like)
            zeros += _cross_entropy(logits, ids, mask)
            zero_kl += _divergence(unchanged, logits, mask)
            del unchanged, logits
        mean = self.sum / max(self.count, 1)
        for ids, mask, kept in self._batches(first=False):
            logits = self._logits(ids, mask, kept, lambda old: mean.to(old).expand_as(old))
            ablated += _cross_entropy(logits, ids, mask)
        sums = (dense, spliced, zeros, ablated, kl, zero_kl)
        return SpliceMetrics(predicted, *(value / predicted for value in sums))

    def _batches(self, first: bool) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Ids, mask, and the positions that are replaced."""
        rows = len(self.tokens.ids)
        everything = (self.tokens.ids, self.tokens.mask, self.tokens.kept())
        for start in range(0, rows, self.batch_rows):
            ids, mask, kept = (part[start : start + self.batch_rows] for part in everything)
            yield ids.to(self.device), mask.to(self.device), kept.to(self.device)
            if self.progress is not None:
                done = min(start + self.batch_rows, rows)
                self.progress(done if first else rows + done, 2 * rows, "spliced into the model")

    def _logits(self, ids: Tensor, mask: Tensor, kept: Tensor, replace: Replacement) -> Tensor:
        """The model's predictions with the layer's activations at `kept` replaced."""
        calls = 0

        def replaced(name: str, activation: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            width = self.sae.config.d_in
            if activation.shape != (*ids.shape, width):
                raise InputError(
                    f"{name!r} gives activations of shape {tuple(activation.shape)}; for this "
                    f"autoencoder and text they must be (rows, length, width) = "
                    f"{(*ids.shape, width)}"
                )
            return activation.masked_scatter(kept[..., None], replace(activation[kept]))

        taps = Taps({self.place.name: self.place.module}, replaced, on=self.place.site)
        try:
            output: Any = self.model(input_ids=ids, attention_mask=mask.long())
        finally:
            taps.remove()
        if calls != 1:
            name = self.place.name
            raise InputError(f"the forward of the model calls {name!r} {calls} times, not once")
        logits = getattr(output, "logits", None)
        if logits is None:
            logits = first_tensor(output)
        if logits is None or logits.shape[:2] != ids.shape:
            raise InputError("the model returns no logits (rows, length, words)")
        return logits

    def _observe(self, activation: Tensor) -> Tensor:
        """Return the activations unchanged, and add them to the mean."""
        self.sum += activation.to(self.sum.dtype).sum(0)
        self.count += len(activation)
        return activation

    def _reconstruct(self, activation: Tensor) -> Tensor:
        weight = self.sae.W_dec
        rebuilt: Tensor = self.sae(activation.to(weight))
        return rebuilt.to(activation)


def _predicted(mask: Tensor) -> Tensor:
    """(rows, length − 1) bool: positions whose next token is not padding."""
    return mask[:, 1:] & mask[:, :-1]


def _cross_entropy(logits: Tensor, ids: Tensor, mask: Tensor) -> float:
    """Sum over the predicted tokens. Row by row, because a log-softmax doubles the memory."""
    rows = zip(logits, ids, _predicted(mask), strict=True)
    return sum(
        float(nn.functional.cross_entropy(row[:-1][ok].float(), own[1:][ok], reduction="sum"))
        for row, own, ok in rows
    )


def _divergence(unchanged: Tensor, spliced: Tensor, mask: Tensor) -> float:
    """KL(unchanged ‖ spliced), summed over the predicted tokens."""
    total = 0.0
    for *rows, ok in zip(unchanged, spliced, _predicted(mask), strict=True):
        p, q = (row[:-1][ok].float().log_softmax(-1) for row in rows)
        total += float(nn.functional.kl_div(q, p, reduction="sum", log_target=True))
    return total
