"""What `sparsact.kernels.cpu.token_step` needs to know of a language model's decoder."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class NormWeight:
    """A root mean square norm, ``x / √(mean(x²) + ε) · weight``; `weight` is float32."""

    weight: Tensor
    eps: float


@dataclass(frozen=True, eq=False)
class LinearWeights:
    """Linear layers that read the same input; their outputs lie one after the other.

    Attributes:
        weights: (in, out) each, as for `sparsact.kernels.gather_linear`; (out, in) without
            thresholds.
        biases: (out,) or None, each.
        scales: (out,) or None, each.
        threshold: λ of shape () or (in,), or None for dense layers.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor | None, ...]
    scales: tuple[Tensor | None, ...]
    threshold: Tensor | None


@dataclass(frozen=True, eq=False)
class BlockWeights:
    """One decoder block: attention and a gated MLP, each added to the residual stream.

    Attributes:
        before_attention: norm of the attention's input.
        after_attention: norm of its output, if there is one.
        before_mlp: norm of the MLP's input.
        after_mlp: norm of its output, if there is one.
        query_norm: norm of each head of the queries, if there is one.
        key_norm: norm of each head of the keys, if there is one.
        qkv: queries, keys and values.
        output: the projection of the attention's output.
        gate_up: gate and up.
        down: down.
        rotation: which of the decoder's rotations turns queries and keys.
        window: how many positions are attended to; None for all.
        scaling: factor of the scores.
        softcap: c > 0 replaces scores s by ``c·tanh(s/c)``; 0 does not.
    """

    before_attention: NormWeight
    after_attention: NormWeight | None
    before_mlp: NormWeight
    after_mlp: NormWeight | None
    query_norm: NormWeight | None
    key_norm: NormWeight | None
    qkv: LinearWeights
    output: LinearWeights
    gate_up: LinearWeights
    down: LinearWeights
    rotation: str
    window: int | None
    scaling: float
    softcap: float


@dataclass(frozen=True, eq=False)
class DecoderWeights:
    """All blocks, the last norm and the output head of a language model.

    Attributes:
        blocks: from the first to the last.
        last_norm: norm before the head.
        head: the output head; without weights, no logits are computed.
        width: of the residual stream.
        hidden: width of the MLPs.
        heads: of the queries.
        key_heads: of the keys and values.
        head_width: of each head.
        cache_dtype: of cached keys and values, float32 or bfloat16.
        is_gelu: whether the gate's activation is the tanh form of GELU; if not, SiLU.
        softcap: of the logits; 0 for none.
    """

    blocks: tuple[BlockWeights, ...]
    last_norm: NormWeight
    head: LinearWeights
    width: int
    hidden: int
    heads: int
    key_heads: int
    head_width: int
    cache_dtype: torch.dtype
    is_gelu: bool
    softcap: float
