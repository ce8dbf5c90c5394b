"""The map of decoder directions, and the comparison with another autoencoder."""

from collections.abc import Sequence

import torch

from sparsact.report.autoencoder.autoencoder_records import (
    Bars,
    DictionaryComparison,
    DirectionMap,
)
from sparsact.sae.evaluation.dictionary_match import DictionaryMatch, decoder_cosines
from sparsact.sae.sae_model import SparseAutoencoder

MOST_POINTS = 1500
BINS = 20


@torch.no_grad()
def make_map(sae: SparseAutoencoder, chosen: Sequence[int], seed: int) -> DirectionMap | None:
    """The chosen directions and a sample of the others, in their principal plane.

    Args:
        sae: the autoencoder.
        chosen: latents that are always on the map.
        seed: seed of the sample.

    Returns:
        the map; None for fewer than three directions.
    """
    if sae.config.d_sae < 3 or sae.config.width_out < 2:  # there is no plane
        return None
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(sae.config.d_sae, generator=generator).tolist()
    indices = list(dict.fromkeys([*chosen, *order]))[: max(MOST_POINTS, len(chosen))]
    rows = torch.nn.functional.normalize(sae.W_dec.detach().float().cpu()[indices], dim=1)
    centered = rows - rows.mean(0)
    values, vectors = torch.linalg.eigh(centered.T @ centered)
    plane = centered @ vectors[:, -2:].flip(1)
    points = [(index, x, y) for index, (x, y) in zip(indices, plane.tolist(), strict=True)]
    return DirectionMap(tuple(points), float(values[-2:].sum() / values.sum().clamp(min=1e-12)))


def make_comparison(
    sae: SparseAutoencoder, other: SparseAutoencoder, match: DictionaryMatch, name: str
) -> DictionaryComparison:
    """The figures of a match, for the page."""
    counts = torch.histogram(match.cosine.clamp(0, 1), torch.linspace(0, 1, BINS + 1)).hist
    figures = [
        ("latents here, there", f"{sae.config.d_sae}, {other.config.d_sae}"),
        ("mean of the largest cosines", f"{match.mean_cosine:.3f}"),
        (f"latents with a cosine of at least {match.near:g}", f"{match.matched:.1%}"),
        ("latents that are split there into two or more", f"{match.split:.1%}"),
    ]
    for title, one in (("here", sae), ("there", other)):
        if one.config.d_sae > 1:
            near = float((decoder_cosines(one) >= match.near).float().mean())
            figures.append((f"latents {title} with a near duplicate", f"{near:.1%}"))
    edges = tuple(edge / BINS for edge in range(BINS + 1))
    return DictionaryComparison(
        name, tuple(figures), Bars(edges, tuple(int(count) for count in counts.tolist()))
    )
