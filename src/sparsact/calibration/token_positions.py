"""The position of every token in its sequence, read from what a model is called with.

Nothing here depends on how transformers names its caches, or on how it builds its masks. A cache
is recognised by its methods. What cannot be read is refused.
"""

import inspect
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact._common.tested_versions import warn_if_untested

NO_SEQUENCE = (
    "keep_first= needs a model that reads sequences: token ids (rows, length) or embeddings "
    "(rows, length, width)"
)

_SEQUENCES = ("input_ids", "inputs_embeds", "decoder_input_ids", "decoder_inputs_embeds")
_CACHES = ("cache", "past_key_values", "cache_params", "mems", "state")

Counts = WeakKeyDictionary[Any, Tensor]
"""For a cache that does not count: (rows, 1), the position of each row's next token."""


def named_inputs(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """The inputs of a forward by name, without those that are None."""
    names = list(inspect.signature(module.forward).parameters) if args else []
    positional = dict(zip(names, args, strict=False))
    return {name: value for name, value in {**positional, **kwargs}.items() if value is not None}


def rows_and_length(tokens: object) -> tuple[int, int]:
    """The size of sequences of token ids (rows, length) or embeddings (rows, length, width)."""
    if not isinstance(tokens, Tensor) or tokens.ndim != 2 + tokens.is_floating_point():
        raise InputError(NO_SEQUENCE)
    return tokens.shape[0], tokens.shape[1]


def token_positions(
    inputs: Mapping[str, Any], counts: Counts, tokens: Tensor | None = None
) -> Tensor:
    """(rows, length): 0 for the first token of a sequence; negative at padding, where known.

    ``position_ids`` say it where the model gets them. Otherwise the attention mask does, beside the
    number of tokens in the cache.

    Args:
        inputs: a forward's inputs by name, without None.
        counts: see :data:`Counts`; read here, written by :func:`count_tokens`.
        tokens: the sequences, where their name is not one of transformers'.

    Raises:
        InputError: there are no sequences, or the inputs do not say where they begin.
    """
    name = next((name for name in _SEQUENCES if name in inputs), "")
    rows, length = rows_and_length(inputs[name] if name else tokens)
    prefix = "decoder_" if name.startswith("decoder_") else ""
    mask = inputs.get(f"{prefix}attention_mask")
    mask = mask.get("full_attention", mask) if isinstance(mask, Mapping) else mask
    positions = inputs.get(f"{prefix}position_ids")
    if isinstance(positions, Tensor) and positions.shape in ((rows, length), (1, length)):
        return positions.expand(rows, length)
    if positions is not None and mask is None:
        raise InputError(
            f"keep_first= cannot read position_ids of shape {tuple(positions.shape)}: give them as "
            f"({rows}, {length}), or attention_mask= too"
        )
    if mask is not None and not (isinstance(mask, Tensor) and mask.ndim in (2, 4)):
        raise InputError(
            f"keep_first= cannot read an attention_mask of type {type(mask).__name__}, or of other "
            "than 2 or 4 dims: give position_ids= too"
        )
    cache = _cache_of(inputs)
    if cache is not None and not counts_tokens(cache):
        here = torch.ones(rows, length) if mask is None else mask[:, -length:]
        return _without_padding(_next_positions(cache, counts) + here.long().cumsum(1) - 1, here)
    columns = _columns(inputs, cache, mask, length)
    if mask is None:
        return columns.expand(rows, length)
    if not length <= int(columns[-1]) + 1 <= mask.shape[-1]:
        raise InputError(
            f"keep_first= cannot read an attention_mask of {mask.shape[-1]} tokens where the last "
            f"token is number {int(columns[-1]) + 1}: it must cover the tokens in the cache too"
        )
    columns = columns.to(mask.device)
    if mask.ndim == 4:
        return _from_square(mask, columns).expand(rows, length)
    return _without_padding(mask.long().cumsum(1) - 1, mask)[:, columns].expand(rows, length)


def count_tokens(
    inputs: Mapping[str, Any], output: object, counts: Counts, positions: Tensor
) -> None:
    """Remember where the next token stands, for a cache that does not count its tokens.

    Args:
        inputs: of a forward.
        output: of that forward, which may have made the cache.
        counts: written.
        positions: what :func:`token_positions` gave for the inputs.
    """
    cache = _cache_in(inputs)
    if cache is None and isinstance(output, Mapping):
        cache = _cache_in(output)
    if cache is not None and not counts_tokens(cache):
        after = positions.amax(1, keepdim=True) + 1
        counts[cache] = torch.maximum(after, counts.get(cache, after))


def sequence_readers(model: nn.Module) -> list[nn.Module]:
    """The modules whose inputs are one sequence a row: the model, or its encoder and decoder."""
    if type(model).__module__.startswith("transformers."):
        warn_if_untested("transformers")
    config = getattr(model, "config", None)
    if not getattr(config, "is_encoder_decoder", False):
        return [model]
    stacks: list[nn.Module] = [model.get_encoder(), model.get_decoder()]  # type: ignore[operator]
    return [
        stack for stack in stacks if _SEQUENCES[0] in inspect.signature(stack.forward).parameters
    ]


def _columns(inputs: Mapping[str, Any], cache: Any, mask: Tensor | None, length: int) -> Tensor:
    """(length,) the place of each token in the mask, where the cached ones come first."""
    columns = inputs.get("cache_position")
    if isinstance(columns, Tensor) and columns.shape == (length,):
        return columns
    if cache is not None:
        before = int(cache.get_seq_length())
    else:
        before = 0 if mask is None else mask.shape[-1] - length
    return torch.arange(before, before + length)


def _from_square(mask: Tensor, columns: Tensor) -> Tensor:
    """From a mask (rows, heads, length, keys): a token sees itself and those before it.

    A mask of floats is added to the scores: it is 0 where a token sees a key. A window must be
    longer than `keep_first`.
    """
    sees = mask[:, 0] if mask.dtype == torch.bool else mask[:, 0] == 0
    keys = torch.arange(sees.shape[-1], device=sees.device)
    sees_all, sees_later = sees.all(-1), (sees & (keys > columns[:, None])).any(-1)
    sees_itself = (sees & (keys == columns[:, None])).any(-1)
    padding = ~sees_itself | (sees_all & sees_later)  # to see all keeps the softmax finite
    seen = (sees & ~padding[..., None]).any(1)[:, columns]
    if bool((sees_later & ~sees_all).any()) or bool((seen & padding).any()):
        raise InputError(
            "keep_first= cannot read the attention_mask: tokens see later ones, so it does not "
            "say which come first; give position_ids= too"
        )
    return (sees.sum(-1) - 1).masked_fill(padding, -1)


def _without_padding(positions: Tensor, mask: Tensor) -> Tensor:
    return positions.to(mask.device).masked_fill(mask == 0, -1)


def _cache_of(inputs: Mapping[str, Any]) -> Any:
    """The cache of the tokens before; None if there is none.

    Raises:
        InputError: something is there under a cache's name, and is no cache.
    """
    cache = _cache_in(inputs)
    name = next((name for name in _CACHES if name in inputs), None)
    if cache is None and name is not None:
        raise InputError(
            f"keep_first= cannot read {name}, a {type(inputs[name]).__name__} that does not say "
            "how many tokens it holds: give position_ids= too, or install a newer transformers"
        )
    return cache


def _cache_in(values: Mapping[str, Any]) -> Any:
    return next((value for value in values.values() if hasattr(value, "get_seq_length")), None)


def counts_tokens(cache: Any) -> bool:
    """Whether a cache knows how many tokens it holds; those of state-space models do not."""
    try:
        cache.get_seq_length()
    except (AttributeError, ValueError):
        return False
    return True


def _next_positions(cache: Any, counts: Counts) -> Tensor:
    """(rows, 1), or () for an empty cache: where the next token stands."""
    filled = getattr(cache, "has_previous_state", None)
    if callable(filled) and not filled():
        counts.pop(cache, None)
        return torch.zeros((), dtype=torch.long)
    if cache not in counts:
        raise InputError(
            f"keep_first= does not know how many tokens the {type(cache).__name__} holds: start "
            "from an empty cache, or give position_ids= too"
        )
    return counts[cache]
