"""The activations of a run: from files, stored by a harvest, or computed while it trains."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from sparsact._common.progress import Progress
from sparsact.sae.data.activation_rows import Rows, open_rows
from sparsact.sae.data.activation_source import ActivationSource
from sparsact.sae.data.harvesting import harvest_places, origin_of
from sparsact.sae.data.places import find_places
from sparsact.sae.data.streaming import FORWARDS, held_out_rows, stream_layers
from sparsact.sae.trained_on import TrainedOn
from sparsact.sae.training.run_settings import SAERun
from sparsact.sae.training.run_state import ACTIVATIONS
from sparsact.text import Tokens

if TYPE_CHECKING:
    from accelerate import Accelerator


class RunData(NamedTuple):
    """The activations of one autoencoder.

    Attributes:
        rows: to train on.
        held_out: (n, width), others in memory.
        origin: where they come from.
    """

    rows: Rows
    held_out: Tensor
    origin: TrainedOn


def open_data(
    config: SAERun, folder: Path, progress: Progress, accelerator: "Accelerator"
) -> dict[str, RunData]:
    """Name of the module → the activations of its autoencoder; one without a name for files.

    Args:
        config: settings of the run, checked.
        folder: directory of the run.
        progress: called while activations are stored.
        accelerator: the processes that share the work.
    """
    source = config.source
    if source.data is not None:
        rows = open_rows(source.data)
        return {"": _drawn(config, rows, origin_of(Path(source.data)))}
    model, tokenizer = source.load_model()
    tokens = source.tokens(tokenizer)
    if source.stream:
        return _streamed(config, model, tokens, accelerator)
    return _stored(config, folder, model, tokens, progress, accelerator)


def _drawn(config: SAERun, rows: Rows, origin: TrainedOn) -> RunData:
    """Stored activations; some are drawn at random and held out."""
    known = _record(config, origin, rows.fingerprint())
    rows, held_out = rows.split(config.held_out, config.training.seed)
    return RunData(rows, held_out, known)


def _record(config: SAERun, origin: TrainedOn, digest: str) -> TrainedOn:
    """What the file of the autoencoder records."""
    return dataclasses.replace(
        origin,
        model=config.source.model or origin.model,
        data=digest,
        held_out=config.held_out,
        seed=config.training.seed,
    )


def _stored(
    config: SAERun,
    folder: Path,
    model: nn.Module,
    tokens: Tokens,
    progress: Progress,
    accelerator: "Accelerator",
) -> dict[str, RunData]:
    """One pass of the model stores the activations of all places."""
    source = config.source
    places = find_places(model, str(source.layer), source.site)
    cache = Path(source.cache or folder / ACTIVATIONS)
    folders = {name: cache if len(places) == 1 else cache / name for name in places}
    rows = harvest_places(
        model,
        places,
        tokens,
        folders,
        max_norm=source.max_norm,
        batch_rows=source.batch_rows,
        dtype=getattr(torch, source.cache_dtype),
        progress=progress,
        accelerator=accelerator,
    )
    return {name: _drawn(config, rows[name], origin_of(folders[name])) for name in places}


def _streamed(
    config: SAERun, model: nn.Module, tokens: Tokens, accelerator: "Accelerator"
) -> dict[str, RunData]:
    """Rows of the text are held out; the others are read while the run trains."""
    source = config.source
    text, held_text = held_out_rows(tokens, config.held_out, config.training.seed)
    options = _stream_options(source)
    held = stream_layers(model, str(source.layer), held_text, **options)
    rows = stream_layers(
        model,
        str(source.layer),
        text,
        shard_forwards=max(FORWARDS, accelerator.num_processes),
        buffer_rows=config.buffer_rows,
        accelerator=accelerator,
        **options,
    )
    places = find_places(model, str(source.layer), source.site)
    return {
        name: RunData(
            rows[name],
            own.last(own.total)[: config.held_out],
            _record(
                config,
                TrainedOn.of(model, name, places[name].site, skip=tokens.skip),
                text.fingerprint(),
            ),
        )
        for name, own in held.items()
    }


def _stream_options(source: ActivationSource) -> dict[str, Any]:
    return {"site": source.site, "max_norm": source.max_norm, "batch_rows": source.batch_rows}
