"""Rows of tokens from text files and datasets."""

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparsact._common.extras import require

DATASET = "hf:"
"""What a source of text that is a dataset begins with."""


@dataclass(frozen=True)
class Tokens:
    """Rows of token ids.

    Attributes:
        ids: (rows, length) int64.
        mask: (rows, length) bool: False where there is padding.
        skip: leading tokens of each row whose activations are dropped, 1 for a BOS.
    """

    ids: Tensor
    mask: Tensor
    skip: int = 0

    def fingerprint(self) -> str:
        """A digest of all of it."""
        digest = hashlib.sha256(f"{tuple(self.ids.shape)} {self.skip}".encode())
        digest.update(self.ids.numpy().tobytes())
        digest.update(self.mask.numpy().tobytes())
        return digest.hexdigest()

    def kept(self) -> Tensor:
        """(rows, length) bool: positions whose activations count."""
        mask = self.mask.clone()
        mask[:, : self.skip] = False
        return mask


@dataclass(frozen=True)
class DatasetPart:
    """Which part of a dataset is the text: what ``datasets.load_dataset`` calls so.

    Attributes:
        config: its configuration (``name``), if it has several.
        split: of it.
        column: that holds the text.
    """

    config: str | None = None
    split: str = "train"
    column: str = "text"


def read_tokens(
    tokenizer: Any,
    sources: Sequence[str | Path],
    length: int = 512,
    *,
    part: DatasetPart | None = None,
    max_tokens: int | None = None,
) -> Tokens:
    """The text of files and datasets, one after the other, as rows of tokens.

    A BOS stands before each row if the tokenizer has one, and its activation does not count.

    Args:
        tokenizer: a Hugging Face tokenizer.
        sources: text files in UTF-8, and datasets as ``hf:`` with a name on the hub or a local
            directory; those are streamed, and not kept on disk.
        length: tokens in a row.
        part: of every dataset.
        max_tokens: reading stops there. A token takes 9 bytes of memory, so a dataset needs it.

    Raises:
        FileNotFoundError: there is no such file or dataset.
        ValueError: no text in them, a file that is not UTF-8, a dataset without that split or
            column, or without `max_tokens`.
        ImportError: ``datasets`` is not installed (extra ``sae``).
    """
    ids = array("q")
    for source in sources:
        if str(source).startswith(DATASET) and max_tokens is None:
            raise ValueError(
                f"{source} is streamed and may have no end: say how many tokens at most "
                "(max_tokens, --max-tokens)"
            )
        texts = _texts(str(source), part or DatasetPart())
        while (max_tokens is None or len(ids) < max_tokens) and (few := list(islice(texts, 64))):
            for found in tokenizer(few, add_special_tokens=False, verbose=False)["input_ids"]:
                ids.extend(found)
    if not ids:
        raise ValueError(f"there is no text in {', '.join(map(str, sources)) or 'no file'}")
    return pack_tokens(ids[:max_tokens], length, bos=tokenizer.bos_token_id)


def _texts(source: str, part: DatasetPart) -> Iterator[str]:
    """The texts of a dataset, or the one of a file."""
    if source.startswith(DATASET):
        yield from _rows(source.removeprefix(DATASET), part)
        return
    try:
        yield Path(source).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{source} is not a text file in UTF-8: {error.reason}") from error


def _rows(name: str, part: DatasetPart) -> Iterator[str]:
    datasets = require("datasets", "sae")
    rows = datasets.load_dataset(name, part.config, split=part.split, streaming=True)
    for row in rows:
        text = row.get(part.column)
        if not isinstance(text, str):
            raise ValueError(
                f"the column {part.column!r} of {name} holds no text; the columns are "
                f"{', '.join(map(repr, row))}"
            )
        yield text


def pack_tokens(
    ids: Iterable[int], length: int, *, bos: int | None = None, drop_bos: bool = True
) -> Tokens:
    """Cut a text into rows of tokens; the last is padded.

    Args:
        ids: the tokens of the text.
        length: tokens in a row, with the BOS.
        bos: put before each row, if the model wants it.
        drop_bos: whether the activation at the BOS is left out: it is of another size than all
            others in most models, and says nothing.

    Raises:
        ValueError: no tokens, or no room for any.

    Example:
        >>> pack_tokens([5, 6, 7], 3, bos=1).ids
        tensor([[1, 5, 6],
                [1, 7, 0]])
    """
    text = torch.as_tensor(ids if isinstance(ids, array) else list(ids), dtype=torch.long)
    room = length - (bos is not None)
    if len(text) == 0 or room < 1:
        raise ValueError(f"{len(text)} tokens cannot be cut into rows of {length}")
    rows = -(-len(text) // room)
    padded = torch.zeros(rows * room, dtype=torch.long)
    padded[: len(text)] = text
    found = padded.view(rows, room)
    mask = (torch.arange(rows * room) < len(text)).view(rows, room)
    if bos is None:
        return Tokens(found, mask)
    first = torch.full((rows, 1), bos)
    mask = torch.cat([torch.ones_like(first, dtype=torch.bool), mask], 1)
    return Tokens(torch.cat([first, found], 1), mask, skip=int(drop_bos))
