"""Prompts for any language model to explain latents and to test the explanations, as JSON lines."""

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparsact._common.atomic import write_text
from sparsact._common.errors import InputError
from sparsact.report.autoencoder.autoencoder_records import Context, Latent, LatentGroup
from sparsact.sae.reporting.latent_statistics import Passages
from sparsact.sae.reporting.token_pieces import split_pieces
from sparsact.sae.sae_model import SparseAutoencoder

SHOWN, TESTED, REACH = 5, 5, 8
LEVELS = 9

EXPLAIN = """A feature of a language model is active on the tokens between << and >> in these \
passages. The numbers after a passage are the activations of its tokens, from 0 to {levels}.

{passages}

Say in one short sentence what the feature responds to. Name what the marked tokens and the text \
before them have in common, not single passages.
Explanation:"""

DETECT = """A feature of a language model was explained as: {explanation}

For each passage answer 1 if it has text that the explanation describes, else 0. Answer with \
{count} digits, separated by spaces, and nothing else.

{passages}
Answer:"""


def write_prompts(
    groups: Iterable[LatentGroup],
    silent: Mapping[int, Sequence[str]],
    path: str | Path,
    seed: int = 0,
) -> Path:
    """Write two lines for each latent that fires: ``explain`` and ``detect``.

    A line has ``latent``, ``task`` and ``prompt``. The prompt of ``detect`` has the place
    ``{explanation}``, to be filled with the answer to the first; the line also has the right
    answers as ``labels``. An explanation is scored by the share of them.

    Args:
        groups: the dashboards.
        silent: latent → passages on which it is not active.
        path: the file.
        seed: of the order of passages.

    Returns:
        the file.

    Raises:
        InputError: no latent fires.
        OutputError: the file cannot be written.

    Source:
        Bills et al., "Language models can explain neurons in language models" (2023); detection
        scoring from Paulo et al., "Automatically Interpreting Millions of Features in Large
        Language Models" (2024). The wording is our own.
    """
    lines: list[dict[str, Any]] = []
    for latent in sorted((x for group in groups for x in group.latents), key=lambda x: x.index):
        if latent.contexts:
            lines += [_explain(latent), _detect(latent, silent.get(latent.index, ()), seed)]
    if not lines:
        raise InputError(
            "prompts= needs dashboards of latents that fire: choose a model and a text"
        )
    write_text(Path(path), "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return Path(path)


def _explain(latent: Latent) -> dict[str, Any]:
    """The task of explaining, from the strongest passages and those at quantiles."""
    shown = (*latent.contexts[:SHOWN], *latent.quantiles[1::2])
    largest = abs(latent.peak or 1.0)
    passages = "\n\n".join(_marked(context, largest) for context in shown)
    prompt = EXPLAIN.format(levels=LEVELS, passages=passages)
    return {"latent": latent.index, "task": "explain", "prompt": prompt}


def _detect(latent: Latent, silent: Sequence[str], seed: int) -> dict[str, Any]:
    """The task of telling passages on which it is active from others; none of them was shown."""
    unseen = latent.contexts[SHOWN : SHOWN + TESTED] or latent.quantiles[::2] or latent.contexts
    active = [("".join(context.pieces), 1) for context in unseen]
    chosen = [*active, *((text, 0) for text in silent[: len(active)])]
    random.Random(seed + latent.index).shuffle(chosen)
    passages = "\n".join(f"{i}. {text!r}" for i, (text, _) in enumerate(chosen, 1))
    # the place of the explanation stays
    prompt = DETECT.replace("{count}", str(len(chosen))).replace("{passages}", passages)
    labels = [label for _, label in chosen]
    return {"latent": latent.index, "task": "detect", "prompt": prompt, "labels": labels}


def _marked(context: Context, largest: float) -> str:
    """A passage with its active tokens marked, and their activations."""
    pairs = list(zip(context.pieces, context.activations, strict=True))
    text = "".join(f"<<{piece}>>" if value else piece for piece, value in pairs)
    levels = [
        f"{piece.strip()!r}: {max(round(LEVELS * abs(value) / largest), 1)}"
        for piece, value in pairs
        if value
    ]
    return f"{text}\n({', '.join(levels)})"


@torch.no_grad()
def silent_passages(
    sae: SparseAutoencoder,
    passages: Passages,
    latents: Sequence[int],
    tokenizer: Any,
    *,
    seed: int = 0,
    windows: int = 64,
) -> dict[int, list[str]]:
    """For each latent some random passages on which it is not active.

    Args:
        sae: in eval mode.
        passages: the activations of the text.
        latents: their indices.
        tokenizer: from transformers.
        seed: of the draw.
        windows: number of passages that are tried, the same for all latents.
    """
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randint(len(passages.ids), (windows,), generator=generator).sort().values
    found: dict[int, list[str]] = {latent: [] for latent in latents}
    for start, batch in passages.batches():
        inside = centers[(centers >= start) & (centers < start + len(batch))]
        if not len(inside):
            continue
        active = sae.encode(batch)[:, list(latents)] != 0
        for center in inside.tolist():
            low, high = _window(passages, center)
            text = "".join(t for t, _ in split_pieces(tokenizer, passages.ids[low:high].tolist()))
            fired: Tensor = active[low - start : high - start].any(0)
            for latent, is_active in zip(latents, fired.tolist(), strict=True):
                if not is_active and text not in found[latent]:
                    found[latent].append(text)
    return found


def _window(passages: Passages, center: int) -> tuple[int, int]:
    first, last = passages.bounds[center].tolist()
    return max(center - REACH, first), min(center + REACH + 1, last)
