"""Generating text with a loop that adds little to the compiled step of a token."""

import inspect
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.inference.fused_decoder import fused_decoder

_Step = Callable[[int], Tensor]  # takes a token, returns the logits (vocabulary,) after it


def generate(
    model: nn.Module,
    input_ids: Tensor,
    max_new_tokens: int = 64,
    *,
    temperature: float = 0.0,
    top_p: float = 1.0,
    eos_token_id: int | Iterable[int] | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Continue one sequence of tokens.

    The prompt runs through the model as usual. Then each token is one compiled call, for models on
    the CPU whose blocks are built as in Llama, Mistral, Qwen2, Qwen3, Phi-3, Gemma 2 or Gemma 3,
    dense or after `sparsify`; each block is first compared with its module. Any other model runs
    layer by layer, and a warning says why. The compiled step computes activations in float32. So a
    float32 model gives the tokens of ``model.generate``; a bfloat16 model, which rounds after every
    operation, may choose another token where two logits nearly tie.

    Args:
        model: a causal language model of transformers, in eval mode.
        input_ids: (1, length) or (length,), int64, at least one token, without padding.
        max_new_tokens: at most this many tokens are added.
        temperature: 0 takes the most likely token; T > 0 draws from ``softmax(logits / T)``.
        top_p: draws only from the most likely tokens, as few as reach this probability; in (0, 1].
        eos_token_id: ends the sequence. By default that of ``model.generation_config``; pass
            ``()`` to continue after it.
        generator: random numbers for the draws.

    Returns:
        (1, length + added) int64: the prompt and the tokens added, a final `eos_token_id` included.

    Raises:
        InputError: `input_ids` are not one sequence, or an argument is out of its range.

    Example:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> config = LlamaConfig(
        ...     vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        ...     num_attention_heads=4,
        ... )
        >>> model = LlamaForCausalLM(config).eval()
        >>> generate(model, torch.tensor([[3, 1, 4]]), max_new_tokens=5, eos_token_id=()).shape
        torch.Size([1, 8])

    Source:
        top-p: Holtzman et al. 2020, "The curious case of neural text degeneration".
    """
    ids = _one_sequence(input_ids)
    tokens = stream(
        model,
        ids,
        max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        eos_token_id=eos_token_id,
        generator=generator,
    )
    return torch.cat([ids, torch.tensor([list(tokens)], dtype=torch.int64, device=ids.device)], 1)


def stream(
    model: nn.Module,
    input_ids: Tensor,
    max_new_tokens: int,
    *,
    temperature: float = 0.0,
    top_p: float = 1.0,
    eos_token_id: int | Iterable[int] | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[int]:
    """The tokens that `generate` adds, one after the other."""
    ids = _one_sequence(input_ids)
    if max_new_tokens < 0:
        raise InputError(f"max_new_tokens= must be at least 0, got {max_new_tokens}")
    if not (temperature >= 0 and math.isfinite(temperature)):
        raise InputError(f"temperature= must be finite and at least 0, got {temperature}")
    if not 0 < top_p <= 1:
        raise InputError(f"top_p= must be above 0 and at most 1, got {top_p}")
    ends = _ends(model, eos_token_id)

    def choose(logits: Tensor) -> int:
        if temperature == 0:
            return int(logits.argmax())
        return draw(logits, temperature, top_p, generator)

    return _stream(model, ids, max_new_tokens, ends, choose)


def _stream(
    model: nn.Module, ids: Tensor, count: int, ends: set[int], choose: Callable[[Tensor], int]
) -> Iterator[int]:
    if count == 0:
        return
    with torch.inference_mode():
        logits, step = _prefill(model, ids, ids.shape[1] + count)
        token = choose(logits)
    yield token
    for _ in range(count - 1):
        if token in ends:
            return
        with torch.inference_mode():
            token = choose(step(token))
        yield token


def _prefill(model: nn.Module, ids: Tensor, positions: int) -> tuple[Tensor, _Step]:
    """The logits after the prompt, and the function that appends a token."""
    decoder = fused_decoder(model)
    only_last = "logits_to_keep" in inspect.signature(model.forward).parameters
    output: Any = model(
        input_ids=ids, use_cache=True, **({"logits_to_keep": 1} if only_last else {})
    )
    logits: Tensor = output.logits[0, -1]
    cache = getattr(output, "past_key_values", None)
    if cache is None:
        raise InputError(f"{type(model).__name__} keeps no past_key_values: use model.generate")
    if decoder is not None:
        session = decoder.session(model, positions)
        session.take(cache, ids.shape[1])
        return logits, session.append

    def step(token: int) -> Tensor:
        one = torch.tensor([[token]], device=ids.device)
        output = model(input_ids=one, past_key_values=cache, use_cache=True)
        logits: Tensor = output.logits[0, -1]
        return logits

    return logits, step


def draw(
    logits: Tensor, temperature: float, top_p: float, generator: torch.Generator | None = None
) -> int:
    """Draw a token from the most likely ones that together reach the probability `top_p`."""
    probability = torch.softmax(logits.float() / temperature, -1)
    if top_p == 1:
        return int(torch.multinomial(probability, 1, generator=generator))
    most, tokens = probability.sort(descending=True)
    before = most.cumsum(0) - most
    kept = most[before < top_p]
    return int(tokens[torch.multinomial(kept, 1, generator=generator)])


def _one_sequence(input_ids: Tensor) -> Tensor:
    ids = input_ids[None] if input_ids.ndim == 1 else input_ids
    if ids.ndim != 2 or ids.shape[0] != 1 or ids.shape[1] == 0 or ids.dtype != torch.int64:
        raise InputError(
            "input_ids= must be one sequence of at least one token, (1, length) int64; got "
            f"{tuple(input_ids.shape)} {input_ids.dtype}. For several sequences use model.generate"
        )
    return ids


def _ends(model: nn.Module, eos_token_id: int | Iterable[int] | None) -> set[int]:
    if eos_token_id is None:
        config: Any = getattr(model, "generation_config", None)
        eos_token_id = getattr(config, "eos_token_id", None)
    if eos_token_id is None:
        return set()
    return {eos_token_id} if isinstance(eos_token_id, int) else set(eos_token_id)
