"""The report of a run, or of an autoencoder by itself, as a file."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact._common.progress import Progress
from sparsact.report.autoencoder.autoencoder_page import save_autoencoder
from sparsact.report.autoencoder.autoencoder_records import (
    AutoencoderReport,
    DirectionMap,
    LatentGroup,
)
from sparsact.sae.data.activation_source import ActivationSource, check_at_least
from sparsact.sae.data.harvesting import harvest
from sparsact.sae.data.places import one_place
from sparsact.sae.evaluation.dictionary_match import DictionaryMatch, match_dictionaries
from sparsact.sae.interchange import load
from sparsact.sae.reporting.direction_records import make_comparison, make_map
from sparsact.sae.reporting.interpretation_prompts import silent_passages, write_prompts
from sparsact.sae.reporting.latent_records import choose_latents, make_groups
from sparsact.sae.reporting.latent_statistics import Passages, fired_on
from sparsact.sae.reporting.logit_lens import logit_lens
from sparsact.sae.reporting.neuronpedia_export import DashboardText, write_neuronpedia
from sparsact.sae.reporting.run_records import Run, read_run
from sparsact.sae.reporting.training_curves import (
    make_conclusion,
    make_densities,
    make_figures,
    make_panels,
)
from sparsact.sae.sae_files import load_sae
from sparsact.sae.sae_model import SparseAutoencoder
from sparsact.sae.trained_on import TrainedOn
from sparsact.sae.training.training_run import autoencoder_in

REPORT = "report.html"


@dataclass(frozen=True)
class DashboardChoice:
    """Which latents get a dashboard.

    Attributes:
        most: number of the most active latents.
        sample: number of others, drawn at random.
        latents: indices of further latents.
        contexts: number of passages in each dashboard.
        seed: seed of the random sample.
    """

    most: int = 20
    sample: int = 20
    latents: Sequence[int] = ()
    contexts: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("most", 0), ("sample", 0), ("contexts", 1)):
            check_at_least(name, getattr(self, name), least)

    @property
    def is_empty(self) -> bool:
        """Whether there are no dashboards."""
        return not (self.most or self.sample or self.latents)


class _Dashboards(NamedTuple):
    groups: tuple[LatentGroup, ...]
    density: Tensor
    fact: str
    directions: DirectionMap | None
    text: DashboardText
    silent: dict[int, list[str]]


QUANTILES = (0.9, 0.7, 0.5, 0.3, 0.1)
"""Quantiles of a latent's activations at which its dashboard shows a passage."""


def write_report(
    path: str | Path,
    *,
    choice: DashboardChoice | None = None,
    source: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    against: str | Path | None = None,
    neuronpedia: str | Path | None = None,
    prompts: str | Path | None = None,
    progress: Progress = lambda *_: None,
    check: bool = True,
) -> Path:
    """Write the report of a run: its curves, and dashboards of latents.

    Dashboards need a model and a text. Without them, or if no latents are chosen, the page has
    only the curves and figures of the training.

    Args:
        path: directory of the run, or of an autoencoder by itself.
        choice: which latents get a dashboard.
        source: fields of `ActivationSource` that replace those of the run: the model and the
            text in which latents are shown.
        out: the file. By default ``report.html`` in `path`.
        against: another autoencoder of the same width, of a run or of any library: the page
            compares the two dictionaries.
        neuronpedia: a directory for the dashboards as JSON in the form of SAEDashboard.
        prompts: a file for prompts that ask a language model to explain the latents, as JSON lines.
        progress: called while activations are computed.
        check: whether to refuse a model or layer on which the autoencoder was not trained.

    Returns:
        the file.

    Raises:
        InputError: there is no autoencoder, the model lacks a layer or text, activations have
            another width, or weights are not finite; the autoencoder was not trained on that
            model or layer, with `check`.
        OutputError: the page cannot be written.
    """
    path, choice = Path(path), choice or DashboardChoice()
    out = path / REPORT if out is None else Path(out)
    run = read_run(path)
    sae = load_sae(run.autoencoder)
    if not all(bool(value.isfinite().all()) for value in sae.state_dict().values()):
        raise InputError(f"{run.autoencoder} has weights that are not finite")
    match = other = None
    if against is not None:
        other = load(_autoencoder_name(against))
        match = match_dictionaries(sae, other)
    shown_in = None if choice.is_empty else _source(source or {}, run)
    dashboards = None
    if shown_in is not None:
        dashboards = _dashboards(choice, sae, shown_in, out.parent, progress, check, match)
    _write_dashboards(dashboards, sae, choice, neuronpedia, prompts)
    report = _report(run, sae, dashboards)
    if match is not None and other is not None:
        comparison = make_comparison(sae, other, match, str(against))
        report = replace(report, comparison=comparison)
    save_autoencoder(report, out)
    return out


def _write_dashboards(
    dashboards: _Dashboards | None,
    sae: SparseAutoencoder,
    choice: DashboardChoice,
    neuronpedia: str | Path | None,
    prompts: str | Path | None,
) -> None:
    """The dashboards in other forms."""
    if dashboards is None:
        if neuronpedia is not None or prompts is not None:
            raise InputError("neuronpedia= and prompts= need dashboards: give a model and a text")
        return
    if neuronpedia is not None:
        write_neuronpedia(dashboards.groups, sae.W_dec.detach(), dashboards.text, neuronpedia)
    if prompts is not None:
        write_prompts(dashboards.groups, dashboards.silent, prompts, choice.seed)


def _autoencoder_name(path: str | Path) -> str:
    """What `load` reads: the autoencoder of a run, or the path itself."""
    return str(autoencoder_in(Path(path))) if Path(path).is_dir() else str(path)


def _report(run: Run, sae: SparseAutoencoder, dashboards: _Dashboards | None) -> AutoencoderReport:
    shape = sae.config
    density = run.density if dashboards is None else dashboards.density
    return AutoencoderReport(
        title=f"Sparse autoencoder: {shape.activation}, {shape.d_in} → {shape.d_sae}",
        facts=(*run.facts(shape), *(() if dashboards is None else (dashboards.fact,))),
        conclusion=make_conclusion(run.metrics),
        figures=make_figures(run.metrics),
        panels=() if run.settings is None else make_panels(run.log, run.settings["training"]),
        densities=None if density is None else make_densities(density),
        groups=() if dashboards is None else dashboards.groups,
        directions=None if dashboards is None else dashboards.directions,
    )


def _dashboards(
    choice: DashboardChoice,
    sae: SparseAutoencoder,
    source: ActivationSource,
    nearby: Path,
    progress: Progress,
    check: bool,
    match: DictionaryMatch | None,
) -> _Dashboards:
    """The dashboards of the chosen latents. Temporary activations are stored in `nearby`."""
    assert source.model is not None
    assert source.layer is not None
    progress(0, 1, "loading the model")
    model, tokenizer = source.load_model()
    place = one_place(model, source.layer, source.site)
    if check and sae.trained_on is not None:
        sae.trained_on.check(TrainedOn.of(model, place.name, place.site))
    tokens = source.tokens(tokenizer)
    with _activation_folder(source.cache, nearby) as folder:
        rows = harvest(
            model,
            source.layer,
            tokens,
            folder,
            site=source.site,
            dtype=getattr(torch, source.cache_dtype),
            batch_rows=source.batch_rows,
            progress=progress,
        )
        if rows.width != sae.config.d_in:
            raise InputError(
                f"{source.layer} gives activations of width {rows.width}, the autoencoder reads "
                f"{sae.config.d_in}"
            )
        passages = Passages(rows, tokens)
        fired = fired_on(sae, passages)
        chosen = choose_latents(fired, choice.most, choice.sample, choice.latents, choice.seed)
        indices = [index for latents in chosen.values() for index in latents]
        lens = logit_lens(model, sae.W_dec.detach()[indices], tokenizer)
        groups = make_groups(
            sae,
            passages,
            chosen,
            tokenizer,
            choice.contexts,
            lens=None if lens is None else dict(zip(indices, lens, strict=True)),
            match=match,
            quantiles=QUANTILES,
            seed=choice.seed,
        )
        silent = silent_passages(sae, passages, indices, tokenizer, seed=choice.seed)
    rows_read, length = tokens.ids.shape
    total, dead = len(passages.ids), int((fired == 0).sum())
    return _Dashboards(
        groups,
        fired / total,
        f"latents in {total} tokens of {', '.join(source.text)}: {int(fired.sum()) / total:.1f} "
        f"active at a time, {dead} of {len(fired)} never",
        make_map(sae, indices, choice.seed),
        DashboardText(source.model, place.name, rows_read, length, ", ".join(source.text)),
        silent,
    )


@contextmanager
def _activation_folder(cache: str | None, nearby: Path) -> Iterator[Path]:
    """The directory of activations: the cache, or a temporary one."""
    if cache is not None:
        yield Path(cache)
        return
    with TemporaryDirectory(prefix=".activations-", dir=nearby) as folder:
        yield Path(folder)


def _source(changes: Mapping[str, Any], run: Run) -> ActivationSource | None:
    """The source of the run with some fields changed; None if neither names a model."""
    if not run.source and not changes:
        return None
    source = ActivationSource(**{**run.source, "stream": False, **changes})
    source.check()
    is_other = any(run.source.get(name) != value for name, value in changes.items())
    if source.max_norm is not None:  # a dashboard shows every token
        return replace(source, max_norm=None, cache=None)
    if is_other and "cache" not in changes:
        return replace(source, cache=None)  # the run's activations do not fit
    return source
