"""The report of a run, or of an autoencoder by itself, as a file."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import tyro
from torch import Tensor

from sparsact._common.errors import about_the_input
from sparsact._common.progress import Progress
from sparsact.report.autoencoder.page import save_autoencoder
from sparsact.report.autoencoder.records import AutoencoderReport, LatentGroup
from sparsact.sae.activations import harvest
from sparsact.sae.files import load_sae
from sparsact.sae.model import SparseAutoencoder
from sparsact.sae.reporting.collect import Passages, fired_on
from sparsact.sae.reporting.files import Run, read_run
from sparsact.sae.reporting.latents import choose_latents, make_groups
from sparsact.sae.reporting.training import (
    make_conclusion,
    make_densities,
    make_figures,
    make_panels,
)
from sparsact.sae.source import Source
from sparsact.text import load_language_model

REPORT = "report.html"


@dataclass(frozen=True)
class ShownIn:
    """The model and the text in which latents are shown; by default those of the run."""

    model: str | None = None
    """A Hugging Face model, a directory or a name on the hub."""
    gguf: str | None = None
    """File of the model, if its weights are in that format."""
    layer: str | None = None
    """Name of the module whose output the autoencoder reads, such as model.layers.15."""
    text: tuple[str, ...] = ()
    """What the model reads: text files, or datasets as hf:NAME (on the hub, or a directory)."""
    text_config: str | None = None
    """Configuration of the dataset, if it has several."""
    text_split: str | None = None
    """Split of the dataset."""
    text_column: str | None = None
    """Column of the dataset."""
    max_tokens: int | None = None
    """Read no more than this; needed for a dataset, which is streamed."""
    length: int | None = None
    """Tokens in a row."""
    batch_rows: int | None = None
    """Rows of tokens in a forward of the model."""
    cache: str | None = None
    """Directory of the model's activations; by default only those of the run are kept."""


@dataclass(frozen=True)
class SAEReport:
    """Write the report of a run: its curves, and dashboards of what latents answer to."""

    path: tyro.conf.Positional[str]
    """Directory of the run, or of an autoencoder by itself."""
    shown_in: tyro.conf.OmitArgPrefixes[ShownIn] = ShownIn()
    most: int = 20
    """Dashboards of the most active latents."""
    sample: int = 20
    """Dashboards of others, at random."""
    latents: tuple[int, ...] = ()
    """Dashboards of these latents too."""
    contexts: int = 10
    """Places of the text in each dashboard."""
    seed: int = 0
    """Of the random sample."""
    out: str | None = None
    """The file; by default report.html in that directory."""

    def __post_init__(self) -> None:
        for name, least in (("most", 0), ("sample", 0), ("contexts", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")


class _Dashboards(NamedTuple):
    groups: tuple[LatentGroup, ...]
    density: Tensor
    fact: str


def write_report(config: SAEReport, progress: Progress = lambda *_: None) -> Path:
    """Write the page that the flags describe.

    Dashboards need a model and a text; without them, or with none asked for, the page has the
    training's curves and figures alone.

    Returns:
        the file.

    Raises:
        InputError: there is no autoencoder; a model without layer or text; activations of
            another width; weights that are not finite.
        OutputError: the page cannot be written.
    """
    out = Path(config.path) / REPORT if config.out is None else Path(config.out)
    with about_the_input():
        run = read_run(Path(config.path))
        sae = load_sae(run.autoencoder)
        if not all(bool(value.isfinite().all()) for value in sae.state_dict().values()):
            raise ValueError(f"{run.autoencoder} has weights that are not finite")
        wanted = config.most or config.sample or config.latents
        source = _source(config.shown_in, run) if wanted else None
        shown = None if source is None else _dashboards(config, sae, source, out.parent, progress)
    save_autoencoder(_report(run, sae, shown), out)
    return out


def _report(run: Run, sae: SparseAutoencoder, shown: _Dashboards | None) -> AutoencoderReport:
    shape = sae.config
    density = run.density if shown is None else shown.density
    return AutoencoderReport(
        title=f"Sparse autoencoder: {shape.activation}, {shape.d_in} → {shape.d_sae}",
        facts=(*run.facts(shape), *(() if shown is None else (shown.fact,))),
        conclusion=make_conclusion(run.metrics),
        figures=make_figures(run.metrics),
        panels=() if run.flags is None else make_panels(run.log, run.flags["training"]),
        densities=None if density is None else make_densities(density),
        groups=() if shown is None else shown.groups,
    )


def _dashboards(
    config: SAEReport, sae: SparseAutoencoder, source: Source, near: Path, progress: Progress
) -> _Dashboards:
    assert source.model is not None
    assert source.layer is not None
    progress(0, 1, "loading the model")
    model, tokenizer = load_language_model(source.model, source.gguf)
    tokens = source.tokens(tokenizer)
    with _kept_or_not(source.cache, near) as folder:
        rows = harvest(
            model,
            source.layer,
            tokens,
            folder,
            batch_rows=source.batch_rows,
            progress=lambda done, total: progress(done, total, "activations"),
        )
        if rows.width != sae.config.d_in:
            raise ValueError(
                f"{source.layer} gives activations of width {rows.width}, the autoencoder reads "
                f"{sae.config.d_in}"
            )
        passages = Passages(rows, tokens)
        fired = fired_on(sae, passages)
        chosen = choose_latents(fired, config.most, config.sample, config.latents, config.seed)
        groups = make_groups(sae, passages, chosen, tokenizer, config.contexts)
    total, dead = len(passages.ids), int((fired == 0).sum())
    return _Dashboards(
        groups,
        fired / total,
        f"latents in {total} tokens of {', '.join(source.text)}: {int(fired.sum()) / total:.1f} "
        f"active at a time, {dead} of {len(fired)} never",
    )


@contextmanager
def _kept_or_not(cache: str | None, near: Path) -> Iterator[Path]:
    """The directory of activations: one that stays, or one that is gone afterwards."""
    if cache is not None:
        yield Path(cache)
        return
    with TemporaryDirectory(prefix=".activations-", dir=near) as folder:
        yield Path(folder)


def _source(given: ShownIn, run: Run) -> Source | None:
    """What the flags say, completed from the run; None where neither names a model."""
    told = run.source
    named = {name: value for name, value in asdict(given).items() if value not in (None, ())}
    if not told and not named:
        return None
    source = Source(**{**told, **named})
    source.check()
    if "cache" not in named and any(told.get(name) != value for name, value in named.items()):
        return replace(source, cache=None)  # the run's activations are others
    return source
