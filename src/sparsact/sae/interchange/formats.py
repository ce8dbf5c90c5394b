"""The formats of autoencoders: how each is recognised, and what reads it."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sparsact.sae.interchange import (
    dictionary_learning_import,
    gemma_scope_import,
    llama_scope_import,
    saelens_import,
    sparsify_import,
)
from sparsact.sae.interchange.dictionary_learning_import import load_dictionary_learning
from sparsact.sae.interchange.foreign_files import SETTINGS
from sparsact.sae.interchange.gemma_scope_import import load_gemma_scope
from sparsact.sae.interchange.llama_scope_import import load_llama_scope
from sparsact.sae.interchange.saelens_import import load_saelens
from sparsact.sae.interchange.sparsify_import import load_sparsify
from sparsact.sae.sae_files import SAE_FILES, load_sae
from sparsact.sae.sae_model import SparseAutoencoder


class Format(NamedTuple):
    """One format.

    Attributes:
        name: for messages.
        files: the files by which a directory is recognised.
        read: reads such a directory.
    """

    name: str
    files: tuple[str, ...]
    read: Callable[[Path], SparseAutoencoder]


_GEMMA, _LLAMA = gemma_scope_import, llama_scope_import

FORMATS = (
    Format("sparsact", SAE_FILES, load_sae),
    Format("SAELens", (saelens_import.WEIGHTS, SETTINGS), load_saelens),
    Format("sparsify", (sparsify_import.WEIGHTS, SETTINGS), load_sparsify),
    Format("dictionary_learning", (dictionary_learning_import.WEIGHTS,), load_dictionary_learning),
    Format("Gemma Scope", (_GEMMA.ARRAYS,), load_gemma_scope),
    Format("Gemma Scope 2", (_GEMMA.TENSORS, _GEMMA.SETTINGS), load_gemma_scope),
    Format("Llama Scope", (_LLAMA.SETTINGS, _LLAMA.WEIGHTS), load_llama_scope),
    Format("lm_saes", (_LLAMA.LATER_WEIGHTS, _LLAMA.LATER_SETTINGS), load_llama_scope),
)
"""All formats of directories. The first whose files are there reads the directory."""

BESIDE = (saelens_import.SCALER, dictionary_learning_import.SETTINGS)
"""Further files that a format may need."""


def format_of(folder: Path) -> Format | None:
    """The format of a directory, or None."""
    return next(
        (one for one in FORMATS if all((folder / file).is_file() for file in one.files)), None
    )


def known_files() -> list[str]:
    """The names of all files that a format reads."""
    return sorted({file for one in FORMATS for file in one.files} | {*BESIDE})
