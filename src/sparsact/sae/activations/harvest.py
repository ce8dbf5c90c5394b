"""Activations of one layer of a model, written to disk as shards that can be resumed."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sparsact._common.atomic import write_tensors, write_text, writing
from sparsact.hooks import Taps, select_modules
from sparsact.sae.activations.rows import Rows, open_rows
from sparsact.text import Tokens

if TYPE_CHECKING:
    from accelerate import Accelerator

MANIFEST = "manifest.json"
NAMED = 5
"""Of the modules that match a pattern."""


def harvest(
    model: nn.Module,
    layer: str,
    tokens: Tokens,
    path: str | Path,
    *,
    batch_rows: int = 8,
    shard_rows: int = 64,
    dtype: torch.dtype = torch.float32,
    progress: Callable[[int, int], None] | None = None,
    accelerator: "Accelerator | None" = None,
) -> Rows:
    """Run a model over text up to one layer, and keep what that layer gives out.

    The forward stops at the layer. Shards are whole or absent: a harvest that was cut off goes
    on where it stopped, and one that is complete is only opened.

    Args:
        model: takes ``input_ids`` and ``attention_mask``; put into eval mode, on any device.
        layer: name of the module whose first output tensor (rows, length, width) is kept.
        tokens: the text.
        path: the directory of the shards.
        batch_rows: rows of tokens in a forward.
        shard_rows: rows of tokens in a shard; a multiple of `batch_rows` wastes nothing.
        dtype: in which activations are stored.
        progress: called with the rows done and their number.
        accelerator: of several processes, each of which makes its share of the shards; all of
            them must call, and see the same directory.

    Returns:
        the activations, one row for each token that counts.

    Raises:
        ValueError: no layer of that name, or several; no tokens; the directory holds the
            activations of another model, layer or text; activations are NaN or infinite.
        OutputError: an OSError: the disk is full, or refuses; the shards that are there stay.

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
        raise ValueError("the text gives no tokens to take activations of")
    folder = Path(path)
    identity = _identity(model, next(iter(chosen)), tokens, dtype, shard_rows)
    if accelerator is None:
        _open_manifest(folder, identity)
    else:
        with accelerator.main_process_first():  # which starts the directory
            _open_manifest(folder, identity)
    rank, processes = _share(accelerator)
    total = len(tokens.ids)
    model.eval()
    for number, start in enumerate(range(0, total, shard_rows)):
        file = folder / f"shard_{number:05d}.safetensors"
        stop = min(start + shard_rows, total)
        if number % processes == rank and not file.exists():
            parts = [
                _activations(model, chosen, tokens, at, min(at + batch_rows, stop))
                for at in range(start, stop, batch_rows)
            ]
            write_tensors(file, {"activations": torch.cat(parts).to(dtype)})
        if progress is not None:
            progress(stop, total)
    if accelerator is not None:
        accelerator.wait_for_everyone()
    return open_rows(folder)


def stream(model: nn.Module, layer: str, tokens: Tokens, batch_rows: int = 8) -> Iterator[Tensor]:
    """The same activations, (kept tokens, width) of `batch_rows` rows at a time, kept nowhere."""
    chosen = one_module(model, layer)
    model.eval()
    for start in range(0, len(tokens.ids), batch_rows):
        stop = min(start + batch_rows, len(tokens.ids))
        yield _activations(model, chosen, tokens, start, stop)


def one_module(model: nn.Module, layer: str) -> dict[str, nn.Module]:
    """The module of that name, or the one that matches the pattern.

    Raises:
        ValueError: there is none, or several.
    """
    chosen = select_modules(model, layer)
    if len(chosen) != 1:
        named = ", ".join(list(chosen)[:NAMED]) + (", …" if len(chosen) > NAMED else "")
        raise ValueError(f"{layer!r} matches {len(chosen)} modules: {named}; name one")
    return chosen


def _share(accelerator: "Accelerator | None") -> tuple[int, int]:
    """The rank of this process, and how many there are."""
    return (0, 1) if accelerator is None else (accelerator.process_index, accelerator.num_processes)


class _Reached(Exception):
    """The layer has been computed: the rest of the model need not be."""


@torch.no_grad()
def _activations(
    model: nn.Module, chosen: dict[str, nn.Module], tokens: Tokens, start: int, stop: int
) -> Tensor:
    """(kept tokens, width) of some rows."""
    found: list[Tensor] = []

    def keep(name: str, activation: Tensor) -> None:
        found.append(activation)
        raise _Reached

    device = next(model.parameters()).device
    ids, mask = tokens.ids[start:stop].to(device), tokens.mask[start:stop].to(device)
    taps = Taps(chosen, keep)
    try:
        model(input_ids=ids, attention_mask=mask.long())
    except _Reached:
        pass
    finally:
        taps.remove()
    if not found:
        raise ValueError(f"the forward of the model never calls {next(iter(chosen))!r}")
    kept = found[0][tokens.kept()[start:stop].to(device)]
    if not bool(kept.isfinite().all()):
        raise ValueError(f"activations of rows {start} to {stop} are NaN or infinite")
    return kept.cpu()


def _identity(
    model: nn.Module, layer: str, tokens: Tokens, dtype: torch.dtype, shard_rows: int
) -> dict[str, Any]:
    """What must agree for shards on disk to be these activations."""
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


def _open_manifest(folder: Path, identity: dict[str, Any]) -> None:
    """Start the directory, or check that it is of the same harvest."""
    file = folder / MANIFEST
    if file.exists():
        found = json.loads(file.read_text())
        differing = [key for key in identity if found.get(key) != identity[key]]
        if differing:
            raise ValueError(
                f"{folder} holds activations of another {' and '.join(differing)}: choose another "
                "directory, or remove it"
            )
        return
    if folder.exists() and any(found.suffix != ".unfinished" for found in folder.iterdir()):
        raise ValueError(f"{folder} is not empty, and not the directory of a harvest")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(identity, indent=2) + "\n")
