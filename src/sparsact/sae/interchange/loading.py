"""Loading an autoencoder in any format that is known, from disk or from the hub."""

from itertools import chain, islice
from pathlib import Path

from torch import nn

from sparsact._common.errors import InputError, MissingInputError
from sparsact._common.hub import NAME, fetched
from sparsact.sae.interchange.dictionary_learning_import import WEIGHTS as DICTIONARY
from sparsact.sae.interchange.dictionary_learning_import import load_dictionary_learning
from sparsact.sae.interchange.formats import FORMATS, format_of, known_files
from sparsact.sae.interchange.gemma_scope_import import ARRAYS, load_gemma_scope
from sparsact.sae.interchange.openai_import import load_openai
from sparsact.sae.sae_files import load_sae
from sparsact.sae.sae_model import SparseAutoencoder
from sparsact.sae.weight_directory import find_directory

RUN = "sae"
"""The directory of the autoencoder in the directory of a run."""

SHOWN = 5
"""Most directories that an error names."""

DEPTHS, SEARCHED = ("*", "*/*", "*/*/*"), 2000
"""Where autoencoders below a directory are searched, and the most places that are looked at."""


def load(
    path: str | Path,
    *,
    subfolder: str | None = None,
    revision: str | None = None,
    activation: nn.Module | None = None,
) -> SparseAutoencoder:
    """Load an autoencoder, whichever library wrote it.

    Recognised are directories of sparsact (also of a run), SAELens, sparsify,
    dictionary_learning, Gemma Scope 1 and 2, Llama Scope and lm_saes, and OpenAI's files for
    GPT-2. Latents and reconstructions are those of the library, on raw activations.

    Args:
        path: a directory or file, or a name on the Hugging Face hub, such as
            ``google/gemma-scope-2b-pt-res``. A directory in the repository can follow the name.
        subfolder: directory of the autoencoder in `path`.
        revision: branch, tag or commit on the hub.
        activation: the threshold module of a ``"custom"`` kind of sparsact.

    Returns:
        the autoencoder, in eval mode. Its `trained_on` holds model and layer, if the files say so.

    Raises:
        MissingInputError: a FileNotFoundError: there is no such directory or file, and the hub
            has none, cannot be reached, or needs a login.
        InputError: a ValueError: the files are of no known format, damaged, or contradict each
            other; or a pickle would run code, which is refused.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from sparsact.sae import SAEConfig, load, save_saelens
        >>> sae = SparseAutoencoder(SAEConfig(d_in=4, d_sae=16, k=2)).eval()
        >>> with tempfile.TemporaryDirectory() as path:
        ...     loaded = load(save_saelens(sae, path))
        >>> torch.equal(loaded.W_dec, sae.W_dec)
        True
    """
    place = find_directory(Path(path) / (subfolder or ""))
    if not place.exists():
        place = _on_the_hub(str(path), subfolder, revision)
    elif revision is not None:
        raise InputError(f"revision={revision} is for a name on the hub, but {place} is a path")
    if place.is_file():
        return _load_file(place)
    inside = find_directory(place / RUN)
    if format_of(place) is None and format_of(inside) is not None:
        place = inside
    found = format_of(place)
    if found is None:
        raise _unknown(place)
    if activation is None:
        return found.read(place)
    if found.read is not load_sae:
        raise InputError(f"activation= is for a custom kind of sparsact; {place} is {found.name}")
    return load_sae(place, activation)


def _on_the_hub(path: str, subfolder: str | None, revision: str | None) -> Path:
    """The place of a name on the hub, once its files are here."""
    if not NAME.fullmatch(path) or path.startswith("."):
        inside = f"/{subfolder}" if subfolder else ""
        raise MissingInputError(f"{path}{inside} does not exist, and is no name on the hub")
    return fetched(path, revision, subfolder, known_files(), what="autoencoder", extra="sae")


def _load_file(file: Path) -> SparseAutoencoder:
    """Read a file by itself, or the directory of which it is the weights."""
    if file.name == DICTIONARY:
        return load_dictionary_learning(file)
    if file.suffix in (".pt", ".pth"):
        return load_openai(file)
    if file.name == ARRAYS:
        return load_gemma_scope(file)
    found = format_of(file.parent)
    if found is not None and file.name in found.files:
        return found.read(file.parent)
    raise _unknown(file.parent)


def _unknown(folder: Path) -> InputError:
    """The error for a directory of no known format. It names autoencoders below."""
    known = ", ".join(f"{one.name} ({' and '.join(one.files)})" for one in FORMATS)
    below = islice(chain.from_iterable(folder.glob(depth) for depth in DEPTHS), SEARCHED)
    found = (child for child in sorted(below) if child.is_dir() and format_of(child))
    nearest = [str(child.relative_to(folder)) for child in islice(found, SHOWN)]
    files = ", ".join(child.name for child in islice(sorted(folder.iterdir()), SHOWN)) or "nothing"
    hint = f"; autoencoders are in {', '.join(nearest)}: name one as subfolder=" if nearest else ""
    return InputError(
        f"{folder} holds no autoencoder of a known format: {known}. It holds {files}{hint}"
    )
