"""Feature absorption: latents that take over a part of what another latent stands for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.sae.evaluation.linear_probe import fit_probe, split_of
from sparsact.sae.sae_model import SparseAutoencoder, evaluating

MOST_MAIN, GAIN = 10, 0.03
"""Largest number of main latents, and the F1 that each further one must add."""

ALIGNED, SHARE, MOST_ABSORBING = 0.1, 0.4, 3
"""Least cosine of an absorbing latent with the probe, least share of the projection of all of them,
and their largest number, as in SAEBench."""


@dataclass(frozen=True)
class Absorption:
    """Absorption of one class.

    Attributes:
        fraction: mean share of the probe's projection that absorbing latents carry.
        main: the main latents of the class.
        words: number of words that were measured.
    """

    fraction: float
    main: tuple[int, ...]
    words: int


@torch.no_grad()
def absorption(
    sae: SparseAutoencoder,
    words: Mapping[str, Tensor],
    *,
    seed: int = 0,
) -> dict[str, Absorption]:
    """Measure how much of a class, such as a first letter, is carried by other latents.

    A logistic regression gives the direction p of the class. Its main latents are those that a
    probe on k latents needs: k rises while F1 gains 0.03. On each held-out word, a latent i
    contributes ``z_i·cos(d_i, p)`` to the projection of the activation on p. If the main latents
    contribute less than the projection, and at most three others with a cosine of at least 0.1
    contribute at least 0.4 of it, these absorb: the fraction is their contribution, up to what
    the main latents leave, over that and the main latents' contribution; else 0.

    Args:
        sae: an autoencoder of the activations' width.
        words: class → activations (words, d_in) at the last token of each word. Classes with
            fewer than 10 words are left out.
        seed: of the draws.

    Returns:
        class → its absorption.

    Raises:
        InputError: a ValueError: fewer than two classes have 10 words.

    Example:
        >>> from sparsact.sae import SAEConfig
        >>> sae = SparseAutoencoder(SAEConfig(d_in=8, d_sae=32, k=4))
        >>> words = {letter: torch.randn(30, 8) for letter in "ab"}
        >>> 0 <= absorption(sae, words)["a"].fraction <= 1
        True

    Source:
        Chanin et al., "A is for Absorption" (2024); the fraction is that of SAEBench (Karvonen et
        al., 2025). There one multi-class probe is fitted, on prompts with examples; here one probe
        per class, on the word itself.
    """
    kept = {name: rows for name, rows in words.items() if len(rows) >= 10}
    if len(kept) < 2:
        raise InputError("absorption needs at least two classes with 10 words each")
    rows = torch.cat(list(kept.values())).float()
    owners = [name for name, own in kept.items() for _ in range(len(own))]
    train, test = split_of(len(rows), seed)
    with evaluating(sae):
        codes = sae.encode(rows.to(sae.W_dec.device)).float().cpu()
    directions = torch.nn.functional.normalize(sae.W_dec.detach().float().cpu(), dim=1)
    scale = torch.linalg.vector_norm(sae.W_dec.detach().float().cpu(), dim=1)
    codes = codes * (scale / sae.scale_out.float().cpu())  # in units of the raw activations
    found = {}
    for name in kept:
        labels = torch.tensor([owner == name for owner in owners])
        if not bool(labels[train].any()) or not bool(labels[test].any()):
            continue
        weight = fit_probe(rows[train], labels[train]).weight.float()
        probe = weight / weight.norm()
        main = _main_latents(codes[train], labels[train])
        own = test[labels[test]]
        cosine = directions @ probe
        fractions = absorbed(rows[own] @ probe, codes[own] * cosine, main, cosine)
        found[name] = Absorption(float(fractions.mean()), tuple(main), len(own))
    return found


def absorbed(
    projection: Tensor, contributions: Tensor, main: Sequence[int], cosine: Tensor
) -> Tensor:
    """(n,): the absorbed fraction of each word.

    Args:
        projection: (n,) of the activations on the probe.
        contributions: (n, d_sae) of the latents to it.
        main: the main latents.
        cosine: (d_sae,) of each latent with the probe.
    """
    chosen = list(main)
    by_main = contributions[:, chosen].sum(1)
    others = contributions.clamp(min=0) * (cosine >= ALIGNED)
    others[:, chosen] = 0
    by_others = others.topk(min(MOST_ABSORBING, others.shape[1]), dim=1).values.sum(1)
    missing = (projection - by_main).clamp(min=0)
    taken = by_others.minimum(missing)
    share = taken / (taken + by_main.clamp(min=0)).clamp(min=torch.finfo(torch.float32).tiny)
    absorbs = (by_main < projection) & (by_others >= SHARE * projection) & (projection > 0)
    return share.clamp(0, 1) * absorbs


def _main_latents(codes: Tensor, labels: Tensor) -> list[int]:
    """The latents that a probe of the class needs."""
    rise = codes[labels].mean(0) - codes[~labels].mean(0)  # a main latent fires on the class
    order = rise.argsort(descending=True)[:MOST_MAIN].tolist()
    best, count = 0.0, 1
    for k in range(1, len(order) + 1):
        score = _f1(fit_probe(codes[:, order[:k]], labels).predict(codes[:, order[:k]]), labels)
        if k > 1 and score < best + GAIN:
            break
        best, count = score, k
    return order[:count]


def _f1(predicted: Tensor, labels: Tensor) -> float:
    hits = int((predicted & labels).sum())
    return 2 * hits / max(int(predicted.sum()) + int(labels.sum()), 1)
