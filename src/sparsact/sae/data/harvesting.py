"""Activations of layers of a model, written to disk as shards. It can be resumed."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sparsact._common.atomic import write_tensors, write_text, writing
from sparsact._common.errors import InputError
from sparsact._common.progress import Progress
from sparsact.hooks import Site
from sparsact.sae.data.activation_rows import Rows, open_rows
from sparsact.sae.data.layer_reading import LayerReader, usual_norms
from sparsact.sae.data.model_batches import (
    ModelBatch,
    Positions,
    model_data,
    token_batches,
)
from sparsact.sae.data.places import Place, find_places, one_place
from sparsact.sae.trained_on import TrainedOn
from sparsact.sae.weight_directory import read_object
from sparsact.text import Tokens

if TYPE_CHECKING:
    from accelerate import Accelerator

MANIFEST = "manifest.json"
ORIGIN = "trained_on"
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def harvest(
    model: nn.Module,
    layer: str,
    tokens: Tokens | Iterable[Any],
    path: str | Path,
    *,
    site: Site = "output",
    positions: Positions = "all",
    max_norm: float | None = None,
    batch_rows: int = 8,
    shard_rows: int = 64,
    dtype: torch.dtype = torch.float32,
    progress: Progress | None = None,
    accelerator: "Accelerator | None" = None,
) -> Rows:
    """Run a model over data up to one layer, and store the activations of that layer.

    The forward stops at the layer. Shards are complete or absent: an interrupted harvest is
    resumed where it stopped, and a complete one is only opened.

    Args:
        model: any model, on any device; put into eval mode. With `tokens` it takes
            ``input_ids`` and ``attention_mask``.
        layer: name of the module whose first tensor (rows, length, width) is stored; also
            (rows, width), or (rows, width, height, breadth) of a network for images. Hooks of
            TransformerLens are understood, such as ``blocks.3.hook_resid_post``.
        tokens: the text; or a DataLoader, or another iterable that can be read again, of
            tensors, dicts of inputs, or pairs of inputs and labels.
        path: the directory of the shards.
        site: ``"output"`` of the module, or its ``"input"``.
        positions: for a loader, which positions of each input count: ``"all"``, the ``"first"``
            (CLS), or the ``"rest"`` (patches).
        max_norm: leave out activations whose norm is above so many medians of the norms in
            their forward. None keeps all.
        batch_rows: rows of tokens in a forward. A loader has its own batches.
        shard_rows: rows of data in a shard. A multiple of `batch_rows` fills every forward.
        dtype: dtype of the stored activations; bfloat16 takes half of the space.
        progress: called with the rows of data done, their total, and what is being done.
        accelerator: if there are several processes, each computes its share of the shards. All
            must call this function, and see the same directory.

    Returns:
        the activations, one row for each position that counts.

    Raises:
        InputError: a ValueError: no layer of that name, or several; no data; the directory
            holds activations of another model, layer or text; activations are NaN or infinite.
        OutputError: an OSError: the disk is full, or refuses. Finished shards stay.

    Example:
        >>> import tempfile
        >>> model = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.ReLU())
        >>> loader = [torch.randn(5, 6) for _ in range(3)]
        >>> with tempfile.TemporaryDirectory() as path:
        ...     harvest(model, "1", loader, path).total
        15
    """
    place = one_place(model, layer, site)
    folders = {place.name: Path(path)}
    return harvest_places(
        model,
        {place.name: place},
        tokens,
        folders,
        positions=positions,
        max_norm=max_norm,
        batch_rows=batch_rows,
        shard_rows=shard_rows,
        dtype=dtype,
        progress=progress,
        accelerator=accelerator,
    )[place.name]


def harvest_layers(
    model: nn.Module,
    layers: str,
    tokens: Tokens | Iterable[Any],
    path: str | Path,
    *,
    site: Site = "output",
    **options: Any,
) -> dict[str, Rows]:
    """As :func:`harvest`, for all modules that a pattern matches, in one pass of the model.

    Args:
        model: as there.
        layers: a pattern of names, such as ``model.layers.*.mlp``.
        tokens: as there.
        path: the directory; each module gets a directory of its name in it.
        site: as there.
        options: the other arguments of :func:`harvest`.

    Returns:
        name of the module → its activations.

    Raises:
        InputError: a ValueError: as there.

    Example:
        >>> import tempfile
        >>> model = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.ReLU())
        >>> with tempfile.TemporaryDirectory() as path:
        ...     rows = harvest_layers(model, "?", [torch.randn(5, 6)], path, dtype=torch.bfloat16)
        >>> {name: own.width for name, own in rows.items()}
        {'0': 4, '1': 4}
    """
    places = find_places(model, layers, site)
    folders = {name: Path(path) / name for name in places}
    return harvest_places(model, places, tokens, folders, **options)


def harvest_places(
    model: nn.Module,
    places: Mapping[str, Place],
    tokens: Tokens | Iterable[Any],
    folders: Mapping[str, Path],
    *,
    positions: Positions = "all",
    max_norm: float | None = None,
    batch_rows: int = 8,
    shard_rows: int = 64,
    dtype: torch.dtype = torch.float32,
    progress: Progress | None = None,
    accelerator: "Accelerator | None" = None,
) -> dict[str, Rows]:
    """:func:`harvest` for several places, each with a directory of its own."""
    if dtype not in DTYPES:
        raise InputError(f"dtype= must be a floating-point dtype, got {dtype}")
    if max_norm is not None and not max_norm >= 1:
        raise InputError(f"max_norm= must be at least 1 median, got {max_norm}")
    data = model_data(tokens, positions, batch_rows, shard_rows)
    settings: dict[str, Any] = {"text": data.digest, "dtype": str(dtype), "shard_rows": shard_rows}
    settings |= {} if max_norm is None else {"max_norm": max_norm}
    with nullcontext() if accelerator is None else accelerator.main_process_first():
        _open_manifests(model, places, folders, settings, data.skip)
    rank, processes = _share(accelerator)
    reader = LayerReader(model, places, positions)
    for number, (stop, batches) in enumerate(data.shards):
        files = {name: folders[name] / f"shard_{number:05d}.safetensors" for name in places}
        wanted = {name: file for name, file in files.items() if not file.exists()}
        if number % processes == rank and wanted:
            _write(read_shard(reader, batches, max_norm), wanted, dtype)
        if progress is not None:
            progress(stop, data.total or stop, "activations")
    if accelerator is not None:
        accelerator.wait_for_everyone()
    return {name: open_rows(folders[name]) for name in places}


def read_shard(
    reader: LayerReader, batches: Iterable[ModelBatch], max_norm: float | None = None
) -> dict[str, Tensor]:
    """The activations of several forwards, joined: key → (rows, width)."""
    parts: dict[str, list[Tensor]] = {key: [] for key in reader.places}
    for batch in batches:
        for key, rows in reader.read(batch).items():
            parts[key].append(rows[usual_norms(rows, max_norm)])
    return {key: torch.cat(own) for key, own in parts.items()}


def stream(
    model: nn.Module, layer: str, tokens: Tokens, batch_rows: int = 8, *, site: Site = "output"
) -> Iterator[Tensor]:
    """The same activations without storing them: (kept tokens, width) of `batch_rows` rows each."""
    place = one_place(model, layer, site)
    reader = LayerReader(model, {place.name: place})
    for batch in token_batches(tokens, 0, len(tokens.ids), batch_rows):
        yield reader.read(batch)[place.name]


def _share(accelerator: "Accelerator | None") -> tuple[int, int]:
    """The rank of this process, and how many there are."""
    return (0, 1) if accelerator is None else (accelerator.process_index, accelerator.num_processes)


def _write(
    activations: Mapping[str, Tensor], files: Mapping[str, Path], dtype: torch.dtype
) -> None:
    for name, file in files.items():
        write_tensors(file, {"activations": activations[name].to(dtype)})


def _open_manifests(
    model: nn.Module,
    places: Mapping[str, Place],
    folders: Mapping[str, Path],
    settings: Mapping[str, Any],
    skip: int,
) -> None:
    digest = _model_fingerprint(model)
    for name, place in places.items():
        identity = {"model": digest, "layer": name, **settings}
        identity |= {} if place.site == "output" else {"site": place.site}
        origin = TrainedOn.of(model, name, place.site, skip=skip)
        _open_manifest(folders[name], identity, origin)


def _model_fingerprint(model: nn.Module) -> str:
    """A digest of the names, shapes and some values of every parameter."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        values = parameter.detach().flatten()
        sample = values[:: max(len(values) // 64, 1)].float().cpu()
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
        digest.update(sample.numpy().tobytes())
    return digest.hexdigest()


def origin_of(folder: Path) -> TrainedOn:
    """Where the activations in a directory came from, as far as :func:`harvest` recorded it."""
    file = folder / MANIFEST
    stored = read_object(file).get(ORIGIN) if file.is_file() else None
    return TrainedOn(**stored) if stored else TrainedOn()


def _open_manifest(folder: Path, identity: dict[str, Any], origin: TrainedOn) -> None:
    """Create the directory, or check that it belongs to the same harvest."""
    file = folder / MANIFEST
    if file.exists():
        stored = read_object(file)
        keys = {**identity, **stored}.keys() - {ORIGIN}
        differing = sorted(key for key in keys if stored.get(key) != identity.get(key))
        if differing:
            raise InputError(
                f"{folder} holds activations of another {' and '.join(differing)}: choose another "
                "directory, or remove it"
            )
        return
    if folder.exists() and any(entry.suffix != ".unfinished" for entry in folder.iterdir()):
        raise InputError(f"{folder} is not empty and holds no activations of a harvest")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps({**identity, ORIGIN: asdict(origin)}, indent=2) + "\n")
