"""Rows of tokens spread evenly over a text."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError, MissingInputError
from sparsact.text.python_reference import reference_text
from sparsact.text.tokens import DATASET, DatasetPart, read_tokens

_STREAMED = 8  # times the rows that are needed: what is read of a dataset, which has no end


def read_rows(
    model: nn.Module,
    tokenizer: Any,
    files: Sequence[str],
    length: int,
    count: int,
    part: DatasetPart | None = None,
) -> Tensor:
    """All complete rows of a text, (rows, length) int64; see `sparsact.text.read_tokens`.

    Args:
        model: the language model that will read the rows.
        tokenizer: its tokenizer.
        files: sources of text. Of datasets, eight times the rows that are needed are read.
        length: tokens in a row.
        count: the least number of rows.
        part: which part of every dataset is read, and the column of datasets and JSON lines.

    Raises:
        MissingInputError: a file is missing.
        InputError: the text has fewer than `count` rows, or the model does not accept rows of
            this length or these tokens.
    """
    _check_length(model, length)
    room = length - (tokenizer.bos_token_id is not None)
    needed = f"{count} rows of {length} need {count * room} tokens of text"
    has_datasets = any(str(file).startswith(DATASET) for file in files)
    limit = _STREAMED * count * room if has_datasets else None
    try:
        tokens = read_tokens(tokenizer, files, length, part=part, max_tokens=limit)
    except MissingInputError:
        raise
    except InputError as error:
        raise InputError(f"{error}; {needed}") from error
    _check_vocabulary(model, tokens.ids)
    rows = tokens.ids[tokens.mask.all(1)]
    if len(rows) < count:
        available = int(tokens.mask.sum()) - len(tokens.mask) * (length - room)
        raise InputError(
            f"the text is too short: {needed}, and there are {available}: give more text, or "
            "choose fewer or shorter rows"
        )
    return rows


def reference_rows(model: nn.Module, tokenizer: Any, length: int, count: int) -> Tensor:
    """Rows of the second part of Python's reference; see `read_rows`."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "topics.txt"
        file.write_text(reference_text()[1], encoding="utf-8")
        return read_rows(model, tokenizer, [str(file)], length, count)


def choose(rows: Tensor, count: int) -> Tensor:
    """`count` of the rows, spread evenly."""
    return rows[spread(len(rows), count)]


def split(rows: Tensor, held_out: int) -> tuple[Tensor, Tensor]:
    """The rows to use and `held_out` others, which are spread evenly."""
    is_held_out = torch.zeros(len(rows), dtype=torch.bool)
    is_held_out[spread(len(rows), held_out)] = True
    return rows[~is_held_out], rows[is_held_out]


def spread(total: int, count: int) -> list[int]:
    """The middles of `count` equal parts of ``range(total)``.

    Example:
        >>> spread(12, 3)
        [2, 6, 10]
    """
    return [(2 * i + 1) * total // (2 * count) for i in range(count)]


def as_batches(rows: Tensor) -> list[dict[str, Tensor]]:
    """A batch for each row."""
    return [{"input_ids": row, "attention_mask": torch.ones_like(row)} for row in rows.split(1)]


def _check_length(model: nn.Module, length: int) -> None:
    if length < 2:
        raise InputError(f"length= must be at least 2, got {length}")
    positions = getattr(model.config, "max_position_embeddings", None)
    if isinstance(positions, int) and length > positions:
        raise InputError(
            f"rows of {length} tokens are longer than the model's {positions} positions: choose a "
            "smaller length="
        )


def _check_vocabulary(model: nn.Module, ids: Tensor) -> None:
    known = model.get_input_embeddings().num_embeddings  # type: ignore[operator]
    if int(ids.max()) >= known:
        raise InputError(
            f"the tokenizer gives token {int(ids.max())}, but the model has only {known}: they do "
            "not belong together"
        )
