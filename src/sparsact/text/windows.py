"""Rows of tokens that are spread evenly over a text."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from sparsact.text import read_tokens
from sparsact.text.reference import reference_text


def read_rows(
    model: nn.Module, tokenizer: Any, files: Sequence[str], length: int, count: int
) -> Tensor:
    """All whole rows of a text, (rows, length) int64; see `sparsact.text.read_tokens`.

    Raises:
        OSError: a file is missing.
        ValueError: the text has fewer than `count` rows or is none, or the model does not read
            rows so long or these tokens.
    """
    _check_length(model, length)
    room = length - (tokenizer.bos_token_id is not None)
    needed = f"{count} rows of {length} need {count * room} tokens of text"
    try:
        tokens = read_tokens(tokenizer, files, length)
    except ValueError as error:
        raise ValueError(f"{error}; {needed}") from error
    _check_vocabulary(model, tokens.ids)
    rows = tokens.ids[tokens.mask.all(1)]
    if len(rows) < count:
        there = int(tokens.mask.sum()) - len(tokens.mask) * (length - room)
        raise ValueError(
            f"the text is too short: {needed}, and there are {there}: give more text, or fewer or "
            "shorter rows"
        )
    return rows


def reference_rows(model: nn.Module, tokenizer: Any, length: int, count: int) -> Tensor:
    """The same from the second part of the reference that comes with Python."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "topics.txt"
        file.write_text(reference_text()[1], encoding="utf-8")
        return read_rows(model, tokenizer, [str(file)], length, count)


def choose(rows: Tensor, count: int) -> Tensor:
    """`count` of the rows, spread evenly."""
    return rows[spread(len(rows), count)]


def split(rows: Tensor, held_out: int) -> tuple[Tensor, Tensor]:
    """All rows but some, and the `held_out` ones, which are spread evenly."""
    apart = torch.zeros(len(rows), dtype=torch.bool)
    apart[spread(len(rows), held_out)] = True
    return rows[~apart], rows[apart]


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
        raise ValueError(f"a row needs at least 2 tokens, got --length {length}")
    most = getattr(model.config, "max_position_embeddings", None)
    if isinstance(most, int) and length > most:
        raise ValueError(f"rows of {length} tokens are longer than the model's {most} positions")


def _check_vocabulary(model: nn.Module, ids: Tensor) -> None:
    known = model.get_input_embeddings().num_embeddings  # type: ignore[operator]
    if int(ids.max()) >= known:
        raise ValueError(
            f"the tokenizer gives token {int(ids.max())}, and the model knows {known}: they do "
            "not belong together"
        )
