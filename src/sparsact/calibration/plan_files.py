"""Where a plan's files are: in a directory of its own, in a saved sparse model, or on the hub."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from sparsact._common.errors import InputError, MissingInputError
from sparsact._common.hub import NAME, fetched

TENSORS, DESCRIPTION = "plan.safetensors", "plan.json"

METHOD = "sparsact"
"""The ``quant_method`` in the config of a saved sparse model."""
FORMAT = 1
"""The newest format of a saved sparse model that this version reads."""
PREFIX = "sparsact_plan."
"""Begins the names of the plan's tensors among the weights of a saved sparse model."""

_CONFIG, _WEIGHTS = "config.json", "*.safetensors"
T = TypeVar("T")


def read_plan(path: str | Path, revision: str | None, make: Callable[..., T]) -> T:
    """What `make` builds of a plan's description and its tensors.

    Args:
        path: a directory of a plan or of a saved sparse model, or ``owner/name`` on the hub.
        revision: of a name on the hub.
        make: takes the description and the tensors.

    Raises:
        MissingInputError: there is no plan.
        InputError: its files are damaged, or of a newer format.
    """
    folder = Path(path)
    on_hub = not folder.exists() and isinstance(path, str) and bool(NAME.fullmatch(path))

    def download(files: list[str]) -> Path:
        return fetched(str(path), revision, None, files, what="plan", extra="transformers")

    if on_hub:
        folder = download([DESCRIPTION, TENSORS, _CONFIG])
    with _as_input_errors(folder):
        settings = None if (folder / DESCRIPTION).is_file() else sparse_settings(folder)
    if settings is not None:
        check_format(settings)
        folder = download([_WEIGHTS]) if on_hub else folder
    with _as_input_errors(folder):
        if settings is not None:
            return make(settings["plan"], plan_tensors(sorted(folder.glob(_WEIGHTS))))
        for name in (DESCRIPTION, TENSORS):
            if not (folder / name).is_file():
                raise MissingInputError(f"{folder} holds no {name}")
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        return make(description, load_file(folder / TENSORS))


def sparse_settings(folder: Path) -> dict[str, Any] | None:
    """What the config of a saved sparse model says about it; None where it is another model."""
    file = folder / _CONFIG
    if not file.is_file():
        return None
    settings = json.loads(file.read_text(encoding="utf-8")).get("quantization_config")
    is_ours = isinstance(settings, dict) and settings.get("quant_method") == METHOD
    return settings if is_ours else None


def check_format(settings: Mapping[str, Any]) -> None:
    """Raise InputError for a format that this version does not know."""
    found = settings.get("format")
    if not isinstance(found, int) or not 1 <= found <= FORMAT:
        raise InputError(
            f"the sparse model is of format {found!r} (sparsact {settings.get('version')}), and "
            f"this version reads formats up to {FORMAT}: install a newer sparsact"
        )


def plan_tensors(files: list[Path]) -> dict[str, Tensor]:
    """The plan's tensors among the weights of a saved sparse model."""
    tensors: dict[str, Tensor] = {}
    for file in files:
        with safe_open(file, framework="pt") as weights:
            names = [name for name in weights.keys() if name.startswith(PREFIX)]  # noqa: SIM118
            tensors |= {name.removeprefix(PREFIX): weights.get_tensor(name) for name in names}
    return tensors


@contextmanager
def _as_input_errors(folder: Path) -> Iterator[None]:
    """A block whose errors of reading become one InputError about the plan in a directory."""
    try:
        yield
    except MissingInputError:
        raise
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise InputError(
            f"{folder} holds no threshold plan that can be read ({type(error).__name__}: "
            f"{error}); sparsact calibrate writes one"
        ) from error
