"""What decoder directions do to the model's predictions, through its last norm and its head."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sparsact.sae.reporting.token_pieces import split_pieces

TOKENS = 10

TokenLogits = tuple[tuple[str, float], ...]


@torch.no_grad()
def logit_lens(
    model: nn.Module, directions: Tensor, tokenizer: Any, count: int = TOKENS
) -> list[tuple[TokenLogits, TokenLogits]] | None:
    """For each direction the tokens that it promotes and suppresses most.

    ``logits = W_head · norm(direction)``, without the biases: what a large step along the
    direction adds to the predictions, if nothing but the last norm comes between.

    Args:
        model: has ``get_output_embeddings``.
        directions: (latents, width).
        tokenizer: from transformers.
        count: number of tokens on each side.

    Returns:
        promoted and suppressed tokens with their logits; None if the model has no head for
        directions of this width.
    """
    head = getattr(model, "get_output_embeddings", lambda: None)()
    if head is None or getattr(head, "weight", directions).shape[-1] != directions.shape[1]:
        return None
    weight = head.weight
    through = directions.to(weight)
    norm = _last_norm(model, directions.shape[1])
    if norm is not None:
        through = norm(through) - norm(torch.zeros_like(through))
    logits = through @ weight.T
    count = min(count, logits.shape[1] // 2)
    return [(_named(row, count, tokenizer), _named(-row, count, tokenizer, -1)) for row in logits]


def _named(logits: Tensor, count: int, tokenizer: Any, sign: int = 1) -> TokenLogits:
    best = logits.float().topk(count)
    texts = [_text(tokenizer, index) for index in best.indices.tolist()]
    return tuple(
        (text, sign * value) for text, value in zip(texts, best.values.tolist(), strict=True)
    )


def _text(tokenizer: Any, index: int) -> str:
    pieces: Sequence[tuple[str, int]] = split_pieces(tokenizer, [index])
    return "".join(text for text, _ in pieces)


def _last_norm(model: nn.Module, width: int) -> nn.Module | None:
    """The norm before the head: the last one that is not inside a block."""
    blocks = [name for name, part in model.named_modules() if isinstance(part, nn.ModuleList)]
    norms = [
        module
        for name, module in model.named_modules()
        if "norm" in type(module).__name__.lower()
        and not any(name.startswith(f"{block}.") for block in blocks)
        and tuple(getattr(getattr(module, "weight", None), "shape", ())) == (width,)
    ]
    return norms[-1] if norms else None
