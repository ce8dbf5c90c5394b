"""``sparsact sae bench``."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from sparsact._common.atomic import write_text
from sparsact._common.errors import InputError
from sparsact._common.progress import Progress
from sparsact.cli.progress_bar import progress
from sparsact.cli.sae.figures import show_line
from sparsact.sae import (
    SparseAutoencoder,
    absorption,
    core_metrics,
    evaluate_spliced,
    load,
    sparse_probing,
)
from sparsact.sae.data.activation_source import LayerReading
from sparsact.sae.data.harvesting import stream
from sparsact.text import Tokens

SKIPPED = (
    "not run, because they download data or call another model: SAEBench's own classes for "
    "probing, SCR, TPP, RAVEL, unlearning, automated interpretability (sparsact sae report "
    "--prompts writes prompts for it)"
)
WORDS = 2000
"""Largest number of words whose first letters are probed."""


@dataclass(frozen=True)
class Bench:
    """Measure an autoencoder as SAEBench does: core metrics, sparse probing, absorption."""

    path: tyro.conf.Positional[str]
    """Directory of a run or an autoencoder, also of another library; or a name on the hub."""
    reading: LayerReading = field(default_factory=lambda: LayerReading(batch_rows=2))
    classes: tuple[str, ...] = ()
    """Text files, one for each class of sparse probing. At least two."""
    first_letters: bool = True
    """Measure the absorption of first letters, on words of the model's vocabulary."""
    seed: int = 0
    """Seed of the splits into training and test."""
    out: str | None = None
    """File for the figures as JSON, by the names of SAEBench."""
    check: bool = True
    """Refuse a model or layer on which the autoencoder was not trained."""


def run_bench(command: Bench, console: Console) -> None:
    """Measure, print the figures, and write them."""
    if len(command.classes) == 1:
        raise InputError("classes= needs at least two text files, one for each class")
    autoencoder = load(command.path)
    with progress(console) as update:
        figures = _figures(command, autoencoder, update)
    for name, part in figures.items():
        table = Table(name, "", box=None, pad_edge=False)
        for figure, value in _flat(part):
            table.add_row(figure, f"{value:.4g}")
        console.print(table)
    show_line(console, SKIPPED)
    if command.out is not None:
        write_text(Path(command.out), json.dumps(figures, indent=2) + "\n")
        show_line(console, f"figures: {command.out}")


def _figures(command: Bench, sae: SparseAutoencoder, update: Progress) -> dict[str, Any]:
    reading = command.reading
    update(0, 1, "loading the model")
    model, tokenizer = reading.load_model()
    layer = str(reading.layer)
    tokens = reading.tokens(tokenizer)
    spliced = evaluate_spliced(
        model,
        layer,
        sae,
        tokens,
        site=reading.site,
        batch_rows=reading.batch_rows,
        progress=update,
        check=command.check,
    )
    rows = list(stream(model, layer, tokens, reading.batch_rows, site=reading.site))
    figures: dict[str, Any] = {"core": core_metrics(sae, rows, spliced)}
    if command.classes:
        update(0, 1, "sparse probing")
        texts = {
            name: _texts(model, replace(reading, text=(name,)), tokenizer)
            for name in command.classes
        }
        figures["sparse_probing"] = sparse_probing(sae, texts, seed=command.seed).figures()
    if command.first_letters:
        update(0, 1, "absorption")
        figures["absorption"] = _absorption(command, model, tokenizer, sae)
    return figures


def _texts(model: nn.Module, reading: LayerReading, tokenizer: Any) -> list[Tensor]:
    """The activations of each row of a text."""
    tokens = reading.tokens(tokenizer)
    counts = tokens.kept().sum(1).tolist()
    parts = stream(model, str(reading.layer), tokens, reading.batch_rows, site=reading.site)
    return [row for row in torch.cat(list(parts)).split(counts) if len(row)]


def _absorption(
    command: Bench, model: nn.Module, tokenizer: Any, sae: SparseAutoencoder
) -> dict[str, float]:
    """The absorption of first letters, for words that are one token."""
    words = vocabulary_words(tokenizer, WORDS)
    if not words:
        raise InputError("the vocabulary has no words in lower case: pass first_letters=False")
    bos = tokenizer.bos_token_id
    ids = torch.tensor([[bos, index] if bos is not None else [index] for index in words.values()])
    tokens = Tokens(ids, torch.ones_like(ids, dtype=torch.bool), skip=int(bos is not None))
    reading = command.reading
    parts = stream(model, str(reading.layer), tokens, 64, site=reading.site)
    rows = torch.cat(list(parts))
    letters: dict[str, list[int]] = {}
    for place, word in enumerate(words):
        letters.setdefault(word[0], []).append(place)
    by_letter = {letter: rows[places] for letter, places in sorted(letters.items())}
    found = absorption(sae, by_letter, seed=command.seed)
    fractions = {letter: one.fraction for letter, one in found.items()}
    mean = sum(fractions.values()) / max(len(fractions), 1)
    return {"mean_absorption_fraction": mean, "num_letters": float(len(fractions)), **fractions}


def vocabulary_words(tokenizer: Any, most: int) -> dict[str, int]:
    """Words of at least three letters a to z that are one token, evenly spread: word → id.

    Where tokens begin with a space, those without one are inner parts of words.
    """
    words: dict[str, int] = {}
    parts: dict[str, int] = {}
    for index in range(len(tokenizer)):
        text = tokenizer.decode([index])
        word = text.strip(" ")
        if len(word) > 2 and word.isascii() and word.isalpha() and word.islower():
            (words if text.startswith(" ") else parts).setdefault(word, index)
    words = words or parts
    step = max(len(words) // most, 1)
    return dict(list(words.items())[::step][:most])


def _flat(part: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in part.items():
        if isinstance(value, dict):
            yield from _flat(value)
        else:
            yield name, value
