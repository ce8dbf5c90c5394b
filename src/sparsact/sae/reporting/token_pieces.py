"""The text of single tokens within a longer text."""

from collections.abc import Sequence
from typing import Any

UNFINISHED = "\ufffd"
"""The end of a decoded text whose last character is incomplete."""


def split_pieces(tokenizer: Any, ids: Sequence[int]) -> list[tuple[str, int]]:
    """The text of tokens, in pieces that each end with a complete character.

    A piece is the text that a token adds to the text before it, so subwords keep their spaces.
    If several tokens share a character, they are one piece.

    Args:
        tokenizer: from transformers.
        ids: a few tokens.

    Returns:
        the text of each piece and its number of tokens. The joined pieces are the decoded text.

    Example:
        >>> class Letters:
        ...     def decode(self, ids, **options):
        ...         return bytes(ids).decode(errors="replace")
        >>> split_pieces(Letters(), [72, 105, 195, 169])
        [('H', 1), ('i', 1), ('é', 2)]
    """
    pieces: list[tuple[str, int]] = []
    done, first = "", 0
    for stop in range(1, len(ids) + 1):
        text = tokenizer.decode(list(ids[:stop]), clean_up_tokenization_spaces=False)
        is_complete = text.startswith(done) and not text.endswith(UNFINISHED)
        if is_complete or stop == len(ids):
            pieces.append((text[len(done) :], stop - first))
            done, first = text, stop
    return pieces
