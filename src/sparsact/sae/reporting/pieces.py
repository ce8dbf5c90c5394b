"""The text of single tokens, as it stands in the whole."""

from collections.abc import Sequence
from typing import Any

UNFINISHED = "\ufffd"
"""What stands at the end of a text whose last character has not all of its bytes yet."""


def split_pieces(tokenizer: Any, ids: Sequence[int]) -> list[tuple[str, int]]:
    """Text of tokens, in pieces that each end with a whole character.

    A piece is what the text grows by when the token is added: so subwords keep their spaces, and
    the bytes of a character that several tokens share come as one piece.

    Args:
        tokenizer: of transformers.
        ids: the tokens, a few.

    Returns:
        for each piece its text and the number of its tokens; joined they are the decoded text.

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
        whole = text.startswith(done) and not text.endswith(UNFINISHED)
        if whole or stop == len(ids):
            pieces.append((text[len(done) :], stop - first))
            done, first = text, stop
    return pieces
