"""What an autoencoder costs its model: the reconstruction in the place of a layer's output."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sparsact.hooks import Taps, first_tensor
from sparsact.sae.activations.harvest import one_module
from sparsact.sae.model import SparseAutoencoder, evaluating
from sparsact.text import Tokens

Replacement = Callable[[Tensor], Tensor]
"""What stands in for activations (n, width), of the same shape."""


@dataclass(frozen=True)
class SpliceMetrics:
    """How a language model predicts with a reconstruction in one layer; means over tokens, in nats.

    Attributes:
        tokens: predicted tokens.
        cross_entropy: of the model as it is.
        spliced: with the reconstruction in the place of the layer's output.
        zero_ablated: with zeros there.
        mean_ablated: with the layer's mean over the text there.
        kl: divergence KL(as it is ‖ spliced) of the predicted distributions.
        recovered_of_zero: ``(zero_ablated − spliced) / (zero_ablated − cross_entropy)``, the share
            of the loss from zeros that the reconstruction avoids: 1 is the model as it is.
        recovered_of_mean: the same for the mean, which zeros can flatter.
    """

    tokens: int
    cross_entropy: float
    spliced: float
    zero_ablated: float
    mean_ablated: float
    kl: float
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
    batch_rows: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> SpliceMetrics:
    """Let a model predict text with an autoencoder's reconstruction as one layer's output.

    Positions whose activations do not count (padding; by default the BOS, on which autoencoders
    are not trained) keep the layer's own output, also under ablation. Every token but padding is
    predicted from those before it. Four forwards for each row; a batch is in memory at a time.

    Args:
        model: takes ``input_ids`` and ``attention_mask``, returns logits (rows, length, words);
            left in the mode it is in.
        layer: name of the module whose first output tensor (rows, length, width) is replaced.
        sae: reads and writes activations of that layer.
        tokens: text that neither was trained on.
        batch_rows: rows of tokens in a forward.
        progress: called with the rows done and their number, of two rounds.

    Raises:
        ValueError: no layer of that name, or several, or of another width than the autoencoder;
            a transcoder, which writes another layer than it reads; no token to predict.

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
        raise ValueError("a transcoder writes another layer than it reads: it cannot be spliced in")
    if not bool(_predicted(tokens.mask).any()):
        raise ValueError("the text gives no token to predict from another")
    with evaluating(model, sae):
        layers = one_module(model, layer)
        return _Rounds(model, layers, sae, tokens, batch_rows, progress).metrics()


class _Rounds:
    """One round over the text as it is, spliced and with zeros, then one with the mean."""

    def __init__(
        self,
        model: nn.Module,
        layers: dict[str, nn.Module],
        sae: SparseAutoencoder,
        tokens: Tokens,
        batch_rows: int,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.model, self.layers, self.sae = model, layers, sae
        self.tokens, self.batch_rows, self.progress = tokens, batch_rows, progress
        self.device = next(model.parameters()).device
        self.sum = torch.zeros(sae.config.d_in, dtype=torch.float64, device=self.device)
        self.count = 0

    def metrics(self) -> SpliceMetrics:
        predicted = 0
        dense = spliced = zeros = ablated = kl = 0.0
        for ids, mask, kept in self._batches(first=True):
            expected = self._logits(ids, mask, kept, self._observed)
            found = self._logits(ids, mask, kept, self._rebuilt)
            predicted += int(_predicted(mask).sum())
            dense += _cross_entropy(expected, ids, mask)
            spliced += _cross_entropy(found, ids, mask)
            kl += _divergence(expected, found, mask)
            del expected, found  # logits are what fills memory
            zeros += _cross_entropy(self._logits(ids, mask, kept, torch.zeros_like), ids, mask)
        mean = self.sum / max(self.count, 1)
        for ids, mask, kept in self._batches(first=False):
            logits = self._logits(ids, mask, kept, lambda old: mean.to(old).expand_as(old))
            ablated += _cross_entropy(logits, ids, mask)
        sums = (dense, spliced, zeros, ablated, kl)
        return SpliceMetrics(predicted, *(value / predicted for value in sums))

    def _batches(self, first: bool) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Ids, mask, and which positions are replaced."""
        rows = len(self.tokens.ids)
        everything = (self.tokens.ids, self.tokens.mask, self.tokens.kept())
        for start in range(0, rows, self.batch_rows):
            ids, mask, kept = (part[start : start + self.batch_rows] for part in everything)
            yield ids.to(self.device), mask.to(self.device), kept.to(self.device)
            if self.progress is not None:
                done = min(start + self.batch_rows, rows)
                self.progress(done if first else rows + done, 2 * rows)

    def _logits(self, ids: Tensor, mask: Tensor, kept: Tensor, replace: Replacement) -> Tensor:
        """What the model predicts with the layer's activations at `kept` replaced."""
        calls = 0

        def replaced(name: str, activation: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            width = self.sae.config.d_in
            if activation.shape != (*ids.shape, width):
                raise ValueError(
                    f"{name!r} gives activations of shape {tuple(activation.shape)}; for this "
                    f"autoencoder and text they must be (rows, length, width) = "
                    f"{(*ids.shape, width)}"
                )
            return activation.masked_scatter(kept[..., None], replace(activation[kept]))

        taps = Taps(self.layers, replaced)
        try:
            output: Any = self.model(input_ids=ids, attention_mask=mask.long())
        finally:
            taps.remove()
        if calls != 1:
            name = next(iter(self.layers))
            raise ValueError(f"the forward of the model calls {name!r} {calls} times, not once")
        logits = getattr(output, "logits", None)
        found = first_tensor(output) if logits is None else logits
        if found is None or found.shape[:2] != ids.shape:
            raise ValueError("the model gives no logits (rows, length, words)")
        return found

    def _observed(self, activation: Tensor) -> Tensor:
        """The activations themselves, which are counted for their mean."""
        self.sum += activation.double().sum(0)
        self.count += len(activation)
        return activation

    def _rebuilt(self, activation: Tensor) -> Tensor:
        weight = self.sae.W_dec
        rebuilt: Tensor = self.sae(activation.to(weight))
        return rebuilt.to(activation)


def _predicted(mask: Tensor) -> Tensor:
    """(rows, length − 1) bool: positions of which the next token is real."""
    return mask[:, 1:] & mask[:, :-1]


def _cross_entropy(logits: Tensor, ids: Tensor, mask: Tensor) -> float:
    """Summed over the predicted tokens, row by row: a log-softmax doubles the memory."""
    rows = zip(logits, ids, _predicted(mask), strict=True)
    return sum(
        float(nn.functional.cross_entropy(row[:-1][ok].float(), own[1:][ok], reduction="sum"))
        for row, own, ok in rows
    )


def _divergence(expected: Tensor, found: Tensor, mask: Tensor) -> float:
    """KL(expected ‖ found), summed over the predicted tokens."""
    total = 0.0
    for one, other, ok in zip(expected, found, _predicted(mask), strict=True):
        wanted, had = (row[:-1][ok].float().log_softmax(-1) for row in (one, other))
        total += float(nn.functional.kl_div(had, wanted, reduction="sum", log_target=True))
    return total
