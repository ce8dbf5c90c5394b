"""Sparse probing: how well a few latents tell classes of text apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.sae.evaluation.linear_probe import fit_probe, split_of
from sparsact.sae.sae_model import SparseAutoencoder, evaluating

KS = 1, 2, 5


@dataclass(frozen=True)
class SparseProbing:
    """Accuracy on held-out texts, for each class against the others, with balanced classes.

    Attributes:
        dense: class → accuracy of a probe on the mean activation, all entries.
        sparse: number of latents → class → accuracy of a probe on so many latents.
        texts: number of texts of each class.
    """

    dense: Mapping[str, float]
    sparse: Mapping[int, Mapping[str, float]]
    texts: Mapping[str, int]

    def figures(self) -> dict[str, float]:
        """The means over classes, by the names of SAEBench."""
        figures = {"llm_test_accuracy": _mean(self.dense)}
        for k, accuracies in self.sparse.items():
            figures[f"sae_top_{k}_test_accuracy"] = _mean(accuracies)
        return figures


@torch.no_grad()
def sparse_probing(
    sae: SparseAutoencoder,
    texts: Mapping[str, Sequence[Tensor]],
    *,
    ks: Sequence[int] = KS,
    seed: int = 0,
) -> SparseProbing:
    """Probe the mean latents of texts for their class.

    For each class, as many texts of the others are drawn. Of four fifths, the k latents with the
    largest difference of means between the two are chosen, and a logistic regression is fitted on
    them; it is measured on the last fifth.

    Args:
        sae: an autoencoder of the activations' width.
        texts: class → a tensor (tokens, d_in) for each text; at least 5 texts of each of at least
            two classes.
        ks: numbers of latents.
        seed: of the draws.

    Raises:
        InputError: a ValueError: too few classes or texts, or a k above the number of latents.

    Example:
        >>> from sparsact.sae import SAEConfig
        >>> sae = SparseAutoencoder(SAEConfig(d_in=8, d_sae=32, k=4))
        >>> texts = {name: [torch.randn(7, 8) + at for _ in range(20)]
        ...          for at, name in enumerate(("low", "high"))}
        >>> sorted(sparse_probing(sae, texts).sparse)
        [1, 2, 5]

    Source:
        Karvonen et al., "SAEBench" (2025), sparse probing; Gurnee et al., "Finding Neurons in a
        Haystack" (2023). The classes there are those of public data sets.
    """
    few = [name for name, own in texts.items() if len(own) < 5]
    if len(texts) < 2 or few:
        raise InputError(
            "sparse probing needs at least two classes with 5 texts each"
            + (f"; {few[0]!r} has {len(texts[few[0]])}" if few else "")
        )
    if not ks or min(ks) < 1 or max(ks) > sae.config.d_sae:
        raise InputError(f"ks= must be from 1 to d_sae={sae.config.d_sae}, got {tuple(ks)}")
    with evaluating(sae):
        latents = {name: _means(own, sae) for name, own in texts.items()}
    raw = {name: torch.stack([text.float().mean(0) for text in own]) for name, own in texts.items()}
    dense: dict[str, float] = {}
    sparse: dict[int, dict[str, float]] = {k: {} for k in ks}
    for name in texts:
        rows, labels = _balanced(raw, name, seed)
        codes, _ = _balanced(latents, name, seed)
        train, test = split_of(len(labels), seed)
        dense[name] = fit_probe(rows[train], labels[train]).accuracy(rows[test], labels[test])
        order = informative(codes[train], labels[train])
        for k in ks:
            chosen = codes[:, order[:k]]
            probe = fit_probe(chosen[train], labels[train])
            sparse[k][name] = probe.accuracy(chosen[test], labels[test])
    return SparseProbing(dense, sparse, {name: len(own) for name, own in texts.items()})


def informative(codes: Tensor, labels: Tensor) -> Tensor:
    """(d_sae,) latents by falling difference of their means between two classes."""
    return (codes[labels].mean(0) - codes[~labels].mean(0)).abs().argsort(descending=True)


def _means(texts: Sequence[Tensor], sae: SparseAutoencoder) -> Tensor:
    device = sae.W_dec.device
    return torch.stack([sae.encode(text.to(device)).float().mean(0).cpu() for text in texts])


def _balanced(rows: Mapping[str, Tensor], name: str, seed: int) -> tuple[Tensor, Tensor]:
    """The rows of a class and as many others, and which are of the class; in random order."""
    others = torch.cat([own for other, own in rows.items() if other != name])
    generator = torch.Generator().manual_seed(seed)
    count = min(len(rows[name]), len(others))
    own = rows[name][torch.randperm(len(rows[name]), generator=generator)[:count]]
    drawn = others[torch.randperm(len(others), generator=generator)[:count]]
    labels = torch.arange(2 * count) < count
    order = torch.randperm(2 * count, generator=generator)
    return torch.cat([own, drawn])[order], labels[order]


def _mean(values: Mapping[str, float]) -> float:
    return sum(values.values()) / len(values)
