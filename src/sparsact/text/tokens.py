"""Rows of tokens from text files and datasets."""

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparsact._common.errors import InputError, MissingInputError
from sparsact._common.extras import require

DATASET = "hf:"
"""The prefix of a source of text that is a dataset."""
_JSON_LINES = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class Tokens:
    """Rows of token ids.

    Attributes:
        ids: (rows, length) int64.
        mask: (rows, length) bool: False where there is padding.
        skip: leading tokens of each row whose activations are dropped, 1 for a BOS.
        left_out: ids of tokens whose activations are dropped everywhere.
    """

    ids: Tensor
    mask: Tensor
    skip: int = 0
    left_out: tuple[int, ...] = ()

    def fingerprint(self) -> str:
        """A digest of all fields."""
        digest = hashlib.sha256(f"{tuple(self.ids.shape)} {self.skip}".encode())
        digest.update(self.ids.numpy().tobytes())
        digest.update(self.mask.numpy().tobytes())
        if self.left_out:
            digest.update(str(sorted(self.left_out)).encode())
        return digest.hexdigest()

    def kept(self) -> Tensor:
        """(rows, length) bool: positions whose activations count."""
        mask = self.mask.clone()
        mask[:, : self.skip] = False
        if self.left_out:
            mask &= ~torch.isin(self.ids, torch.tensor(self.left_out))
        return mask


@dataclass(frozen=True)
class DatasetPart:
    """Which part of a dataset is the text; see ``datasets.load_dataset``.

    Attributes:
        config: the configuration (``name``), if there are several.
        split: the split.
        column: the column that holds the text.
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
    separator: int | None = None,
) -> Tokens:
    """Read files and datasets, one after the other, as rows of tokens.

    If the tokenizer has a BOS, each row begins with it; its activation does not count.

    Args:
        tokenizer: a Hugging Face tokenizer.
        sources: text files in UTF-8, files of JSON lines (``.jsonl``, ``.ndjson``), and datasets as
            ``hf:`` with a name on the hub or a local directory; datasets are streamed and not
            stored on disk.
        length: tokens in a row.
        part: which part of every dataset is read, and the column of datasets and JSON lines.
        max_tokens: where reading stops. A token takes 9 bytes of memory, so datasets need a limit.
        separator: token between the texts of files, JSON lines and datasets, such as the EOS.
            None joins them without one.

    Raises:
        MissingInputError: there is no such file or dataset.
        InputError: there is no text, a file is not UTF-8, or a dataset has no such split or
            column, or no `max_tokens`.
        ImportError: ``datasets`` is not installed (extra ``sae``).
    """
    ids = array("q")
    for source in sources:
        if str(source).startswith(DATASET) and max_tokens is None:
            raise InputError(f"{source} is streamed and may have no end: limit it with max_tokens=")
        texts = _texts(str(source), part or DatasetPart())
        while (max_tokens is None or len(ids) < max_tokens) and (few := list(islice(texts, 64))):
            for text in tokenizer(few, add_special_tokens=False, verbose=False)["input_ids"]:
                if ids and separator is not None:
                    ids.append(separator)
                ids.extend(text)
    if not ids:
        raise InputError(f"there is no text in {', '.join(map(str, sources)) or 'no file'}")
    return pack_tokens(ids[:max_tokens], length, bos=tokenizer.bos_token_id)


def _texts(source: str, part: DatasetPart) -> Iterator[str]:
    """The texts of a dataset or of JSON lines, or the single text of a file."""
    if source.startswith(DATASET):
        yield from _rows(source.removeprefix(DATASET), part)
        return
    text = _content(source)
    if Path(source).suffix.lower() in _JSON_LINES:
        yield from _json_lines(text, source, part.column)
    else:
        yield text


def _content(source: str) -> str:
    try:
        return Path(source).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{source} is not a text file in UTF-8: {error.reason}") from error
    except FileNotFoundError as error:
        raise MissingInputError(f"there is no file {source}") from error
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error.strerror}") from error


def _json_lines(lines: str, source: str, column: str) -> Iterator[str]:
    """The text in each line, which is a JSON object; empty lines are left out."""
    for number, line in enumerate(lines.split("\n"), 1):  # other line breaks may be in a text
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"line {number} of {source} is no JSON ({error})") from error
        yield _text_of(row, column, f"line {number} of {source}")


def _rows(name: str, part: DatasetPart) -> Iterator[str]:
    datasets = require("datasets", "sae")
    try:
        for row in datasets.load_dataset(name, part.config, split=part.split, streaming=True):
            yield _text_of(row, part.column, name)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise MissingInputError(f"there is no dataset {name}: {error}") from error
    except ConnectionError as error:
        raise InputError(
            f"the dataset {name} cannot be read, because the hub cannot be reached ({error}): give "
            f"text files, or a dataset on this machine as {DATASET}DIRECTORY"
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"the dataset {name} cannot be read: {error}") from error


def _text_of(row: Any, column: str, place: str) -> str:
    text = row.get(column) if isinstance(row, dict) else None
    if isinstance(text, str):
        return text
    columns = ", ".join(map(repr, row)) if isinstance(row, dict) else f"none, it is {row!r:.40}"
    raise InputError(f"the column {column!r} of {place} holds no text; the columns are {columns}")


def pack_tokens(
    ids: Iterable[int], length: int, *, bos: int | None = None, drop_bos: bool = True
) -> Tokens:
    """Cut a text into rows of tokens; the last row is padded.

    Args:
        ids: the tokens of the text.
        length: tokens in a row, including the BOS.
        bos: token at the start of each row, if the model expects one.
        drop_bos: leave out the activation at the BOS. In most models its size differs from all
            others, and it carries no information about the text.

    Raises:
        InputError: there are no tokens, or a row has no room for any.

    Example:
        >>> pack_tokens([5, 6, 7], 3, bos=1).ids
        tensor([[1, 5, 6],
                [1, 7, 0]])
    """
    text = torch.as_tensor(ids if isinstance(ids, array) else list(ids), dtype=torch.long)
    room = length - (bos is not None)
    if len(text) == 0 or room < 1:
        raise InputError(f"{len(text)} tokens cannot be cut into rows of {length}")
    rows = -(-len(text) // room)
    padded = torch.zeros(rows * room, dtype=torch.long)
    padded[: len(text)] = text
    packed = padded.view(rows, room)
    mask = (torch.arange(rows * room) < len(text)).view(rows, room)
    if bos is None:
        return Tokens(packed, mask)
    first = torch.full((rows, 1), bos)
    mask = torch.cat([torch.ones_like(first, dtype=torch.bool), mask], 1)
    return Tokens(torch.cat([first, packed], 1), mask, skip=int(drop_bos))
