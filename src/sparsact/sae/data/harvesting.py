"""Activations of one layer of a model, written to disk as shards. It can be resumed."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sparsact._common.atomic import write_tensors, write_text, writing
from sparsact._common.errors import InputError
from sparsact._common.progress import Progress
from sparsact.hooks import Taps, select_modules
from sparsact.hooks.early_stop import stop_after
from sparsact.sae.data.activation_rows import Rows, open_rows
from sparsact.sae.trained_on import TrainedOn
from sparsact.sae.weight_directory import read_object
from sparsact.text import Tokens

if TYPE_CHECKING:
    from accelerate import Accelerator

MANIFEST = "manifest.json"
ORIGIN = "trained_on"
MOST_NAMES = 5
"""Modules that an error names."""


def harvest(
    model: nn.Module,
    layer: str,
    tokens: Tokens,
    path: str | Path,
    *,
    batch_rows: int = 8,
    shard_rows: int = 64,
    dtype: torch.dtype = torch.float32,
    progress: Progress | None = None,
    accelerator: "Accelerator | None" = None,
) -> Rows:
    """Run a model over text up to one layer, and store the output of that layer.

    The forward stops at the layer. Shards are complete or absent: an interrupted harvest is
    resumed where it stopped, and a complete one is only opened.

    Args:
        model: takes ``input_ids`` and ``attention_mask``; put into eval mode, on any device.
        layer: name of the module whose first output tensor (rows, length, width) is stored.
        tokens: the text.
        path: the directory of the shards.
        batch_rows: rows of tokens in a forward.
        shard_rows: rows of tokens in a shard. A multiple of `batch_rows` fills every forward.
        dtype: dtype of the stored activations.
        progress: called with the rows of tokens done, their total, and what is being done.
        accelerator: if there are several processes, each computes its share of the shards. All
            must call this function, and see the same directory.

    Returns:
        the activations, one row for each token that counts.

    Raises:
        InputError: a ValueError: no layer of that name, or several; no tokens; the directory
            holds activations of another model, layer or text; activations are NaN or infinite.
        OutputError: an OSError: the disk is full, or refuses. Finished shards stay.

    Example:
        >>> import tempfile
        >>> model = torch.nn.Sequential(torch.nn.Embedding(9, 4), torch.nn.Linear(4, 2))
        >>> model.forward = lambda input_ids, attention_mask: torch.nn.Sequential.forward(
        ...     model, input_ids)
        >>> ids = torch.randint(9, (3, 5))
        >>> tokens = Tokens(ids, torch.ones_like(ids, dtype=torch.bool))
        >>> with tempfile.TemporaryDirectory() as path:
        ...     harvest(model, "0", tokens, path).total
        15
    """
    chosen = one_module(model, layer)
    if not bool(tokens.kept().any()):
        raise InputError("the text has no tokens whose activations count")
    folder = Path(path)
    name = next(iter(chosen))
    origin = TrainedOn.of(model, name, skip=tokens.skip)
    identity = _identity(model, name, tokens, dtype, shard_rows)
    if accelerator is None:
        _open_manifest(folder, identity, origin)
    else:
        with accelerator.main_process_first():  # it creates the directory
            _open_manifest(folder, identity, origin)
    rank, processes = _share(accelerator)
    total = len(tokens.ids)
    model.eval()
    for shard, start in enumerate(range(0, total, shard_rows)):
        file = folder / f"shard_{shard:05d}.safetensors"
        stop = min(start + shard_rows, total)
        if shard % processes == rank and not file.exists():
            parts = [
                _activations(model, chosen, tokens, at, min(at + batch_rows, stop))
                for at in range(start, stop, batch_rows)
            ]
            write_tensors(file, {"activations": torch.cat(parts).to(dtype)})
        if progress is not None:
            progress(stop, total, "activations")
    if accelerator is not None:
        accelerator.wait_for_everyone()
    return open_rows(folder)


def stream(model: nn.Module, layer: str, tokens: Tokens, batch_rows: int = 8) -> Iterator[Tensor]:
    """The same activations without storing them: (kept tokens, width) of `batch_rows` rows each."""
    chosen = one_module(model, layer)
    model.eval()
    for start in range(0, len(tokens.ids), batch_rows):
        stop = min(start + batch_rows, len(tokens.ids))
        yield _activations(model, chosen, tokens, start, stop)


def one_module(model: nn.Module, layer: str) -> dict[str, nn.Module]:
    """The module of that name, or the only one that matches the pattern.

    Raises:
        InputError: a ValueError: there is none, or several.
    """
    chosen = select_modules(model, layer)
    if len(chosen) != 1:
        named = ", ".join(list(chosen)[:MOST_NAMES])
        named += ", …" if len(chosen) > MOST_NAMES else ""
        raise InputError(f"{layer!r} matches {len(chosen)} modules: {named}; name one")
    return chosen


def _share(accelerator: "Accelerator | None") -> tuple[int, int]:
    """The rank of this process, and how many there are."""
    return (0, 1) if accelerator is None else (accelerator.process_index, accelerator.num_processes)


@torch.no_grad()
def _activations(
    model: nn.Module, chosen: dict[str, nn.Module], tokens: Tokens, start: int, stop: int
) -> Tensor:
    """(kept tokens, width) of some rows."""
    outputs: list[Tensor] = []
    ((name, module),) = chosen.items()
    device = next(model.parameters()).device
    ids, mask = tokens.ids[start:stop].to(device), tokens.mask[start:stop].to(device)
    taps = Taps(chosen, lambda _, activation: outputs.append(activation))
    try:
        with stop_after(module):
            model(input_ids=ids, attention_mask=mask.long())
    finally:
        taps.remove()
    if not outputs:
        raise InputError(f"the forward of the model never calls {name!r}")
    counts = tokens.kept()[start:stop].to(device)
    kept = outputs[0][counts]
    if not bool(kept.isfinite().all()):
        spoilt = (~outputs[0].isfinite().all(-1) & counts).any(1).nonzero()
        raise InputError(
            f"activations of {name!r} are NaN or infinite in row {start + int(spoilt[0])} "
            f"of the tokens (rows of {tokens.ids.shape[1]}, counted from 0)"
        )
    return kept.cpu()


def _identity(
    model: nn.Module, layer: str, tokens: Tokens, dtype: torch.dtype, shard_rows: int
) -> dict[str, Any]:
    """What must agree for the shards on disk to hold these activations."""
    return {
        "model": _model_fingerprint(model),
        "layer": layer,
        "text": tokens.fingerprint(),
        "dtype": str(dtype),
        "shard_rows": shard_rows,
    }


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
        differing = [key for key in identity if stored.get(key) != identity[key]]
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
