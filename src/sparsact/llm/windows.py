"""Rows of tokens that are spread evenly over a text."""

from collections.abc import Sequence
from pathlib import Path
from pydoc_data.topics import topics
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from sparsact.language import read_tokens


def read_rows(model: nn.Module, tokenizer: Any, files: Sequence[str], length: int) -> Tensor:
    """All whole rows of a text, (rows, length) int64; see `sparsact.language.read_tokens`.

    Raises:
        OSError: a file is missing.
        ValueError: the model reads no rows so long or none of these tokens, or a file is no text.
    """
    _check_length(model, length)
    tokens = read_tokens(tokenizer, files, length)
    known = model.get_input_embeddings().num_embeddings  # type: ignore[operator]
    if int(tokens.ids.max()) >= known:
        raise ValueError(
            f"the tokenizer gives token {int(tokens.ids.max())}, and the model knows {known}: "
            "they do not belong together"
        )
    return tokens.ids[tokens.mask.all(1)]


def reference_rows(model: nn.Module, tokenizer: Any, length: int) -> Tensor:
    """The same from every second topic of the reference that comes with Python."""
    names = sorted(topics)[1::2]
    with TemporaryDirectory() as folder:
        file = Path(folder) / "topics.txt"
        file.write_text("\n".join(topics[name] for name in names), encoding="utf-8")
        return read_rows(model, tokenizer, [str(file)], length)


def choose(rows: Tensor, count: int) -> Tensor:
    """`count` of the rows, spread evenly.

    Raises:
        ValueError: there are fewer.
    """
    length = rows.shape[1]
    if len(rows) < count:
        raise ValueError(
            f"the text is too short: {count} rows of {length} tokens need {count * length} tokens, "
            f"and it holds {len(rows)} such rows, {rows.numel()} tokens: give more text, or fewer "
            "or shorter rows"
        )
    return rows[spread(len(rows), count)]


def split(rows: Tensor, count: int, held_out: int) -> tuple[Tensor, Tensor]:
    """`count` of the rows and `held_out` others, both spread evenly."""
    chosen = choose(rows, count + held_out)
    apart = torch.zeros(len(chosen), dtype=torch.bool)
    apart[spread(len(chosen), held_out)] = True
    return chosen[~apart], chosen[apart]


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
