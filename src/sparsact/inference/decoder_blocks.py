"""Reading a language model's decoder as weights for the compiled step of one token.

A block is recognised by the names and kinds of its parts. `fused_decoder` then compares the result
with the modules, because names promise nothing about what a module computes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparsact.calibration.first_positions import FirstPositions
from sparsact.calibration.model_forward import output_head
from sparsact.inference.rms_norm import epsilon, multiplies_by
from sparsact.inference.sparse_linear import SparseLinear
from sparsact.kernels.ops.decoder_weights import (
    BlockWeights,
    DecoderWeights,
    LinearWeights,
    NormWeight,
)
from sparsact.kernels.reference.int4 import outputs

_TWO_NORMS = {"input_layernorm", "post_attention_layernorm"}
_FOUR_NORMS = _TWO_NORMS | {"pre_feedforward_layernorm", "post_feedforward_layernorm"}
_PROJECTIONS = ({"q_proj", "k_proj", "v_proj", "o_proj"}, {"qkv_proj", "o_proj"})
_HEAD_NORMS = {"q_norm", "k_norm"}
_MLPS = ({"gate_proj", "up_proj", "down_proj"}, {"gate_up_proj", "down_proj"})
_ACTIVATIONS = {"act_fn", "activation_fn"}
_ROTATIONS = ("default", "linear", "llama3", "yarn")  # those that do not depend on the length
_CACHES = {torch.bfloat16: torch.bfloat16}  # other models' keys and values are kept in float32


class NotRecognisedError(Exception):
    """The model is not one that the compiled step computes; the message says why."""


def read_decoder(model: nn.Module) -> DecoderWeights:
    """The weights of a model's decoder; raises NotRecognisedError."""
    inner, config = decoder_of(model), text_config(model)
    head = output_head(model)
    _require(head is not None, "it has no output head")
    first = inner.layers[0].self_attn
    width: int = config.hidden_size
    head_width = int(getattr(first, "head_dim", 0))
    _require(head_width > 0, "its attention has no head_dim")
    blocks = tuple(_block(layer, config, place) for place, layer in enumerate(inner.layers))
    heads = _outputs(blocks[0].output, by_inputs=True) // head_width
    rest = _outputs(blocks[0].qkv) - heads * head_width
    key_heads, hidden = rest // (2 * head_width), _outputs(blocks[0].down, by_inputs=True)
    _require(
        all(
            _sizes(block) == (width, (heads + 2 * key_heads) * head_width, width, hidden)
            and _outputs(block.gate_up) == 2 * hidden
            for block in blocks
        )
        and heads % max(1, key_heads) == 0,
        "its blocks differ in size",
    )
    return DecoderWeights(
        blocks=blocks,
        last_norm=_norm(inner.norm),
        head=_linear([head]),
        width=width,
        hidden=hidden,
        heads=heads,
        key_heads=key_heads,
        head_width=head_width,
        cache_dtype=_CACHES.get(inner.embed_tokens.weight.dtype, torch.float32),
        is_gelu=_is_gelu(inner.layers[0].mlp),
        softcap=float(getattr(config, "final_logit_softcapping", None) or 0),
    )


def decoder_of(model: nn.Module) -> Any:
    """The module that holds the blocks, in Hugging Face's arrangement."""
    inner: Any = getattr(model, "model", None)
    parts = ("layers", "norm", "embed_tokens", "rotary_emb")
    _require(
        all(hasattr(inner, part) for part in parts)
        and len(inner.layers) > 0
        and all(hasattr(layer, "self_attn") and hasattr(layer, "mlp") for layer in inner.layers),
        "its parts are not named as in Llama",
    )
    _require(not any(_own_hooks(module) for module in model.modules()), "it has hooks")
    _require(not model.training, "it is in training mode")
    tensors = [*model.parameters(), *model.buffers()]
    _require(all(tensor.is_cpu for tensor in tensors), "it is not on the CPU")
    return inner


def _own_hooks(module: nn.Module) -> list[Any]:
    """Hooks that may see or change what the step leaves out.

    Those of `FirstPositions` find the first tokens, which the step knows. Those of transformers
    collect hidden states for a caller who asks for them.
    """
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    return [
        hook
        for hook in hooks
        if not isinstance(getattr(hook, "__self__", None), FirstPositions)
        and not (getattr(hook, "__module__", None) or "").startswith("transformers.")
    ]


def text_config(model: nn.Module) -> Any:
    """The configuration of the language model."""
    config: Any = getattr(model, "config", None)
    _require(config is not None, "it has no config")
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def rotation_tables(
    model: nn.Module, decoder: DecoderWeights, positions: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """Cosines and sines (positions, rotated width) of each rotation that the blocks use."""
    rotary = decoder_of(model).rotary_emb
    x, places = torch.zeros(1, 1, decoder.width), torch.arange(positions)[None]
    kinds = {block.rotation for block in decoder.blocks}
    with torch.no_grad():
        tables = {kind: rotary(x, places, *([kind] if kind else [])) for kind in kinds}
    return {
        kind: (cosine[0].float().contiguous(), sine[0].float().contiguous())
        for kind, (cosine, sine) in tables.items()
    }


def _block(layer: Any, config: Any, place: int) -> BlockWeights:
    attention, mlp = layer.self_attn, layer.mlp
    norms = _children(layer) - {"self_attn", "mlp"}
    _require(norms in (_TWO_NORMS, _FOUR_NORMS), "its blocks have other norms")
    projections = _children(attention) - _HEAD_NORMS
    _require(projections in _PROJECTIONS, "its attention has other parts")
    parts = _children(mlp) - _ACTIVATIONS
    _require(parts in _MLPS, "its MLP has other parts")
    _require(
        not any(list(module.parameters(recurse=False)) for module in (layer, attention, mlp)),
        "its blocks have parameters of their own",
    )
    has_four = norms == _FOUR_NORMS
    before_mlp = "pre_feedforward_layernorm" if has_four else "post_attention_layernorm"
    qkv = ("qkv_proj",) if "qkv_proj" in projections else ("q_proj", "k_proj", "v_proj")
    gate_up = ("gate_up_proj",) if "gate_up_proj" in parts else ("gate_proj", "up_proj")
    has_head_norms = hasattr(attention, "q_norm") and hasattr(attention, "k_norm")
    kind = _kind(config, place)
    scaling = getattr(attention, "scaling", attention.head_dim**-0.5)
    return BlockWeights(
        before_attention=_norm(layer.input_layernorm),
        after_attention=_norm(layer.post_attention_layernorm) if has_four else None,
        before_mlp=_norm(getattr(layer, before_mlp)),
        after_mlp=_norm(layer.post_feedforward_layernorm) if has_four else None,
        query_norm=_norm(attention.q_norm) if has_head_norms else None,
        key_norm=_norm(attention.k_norm) if has_head_norms else None,
        qkv=_linear([getattr(attention, name) for name in qkv]),
        output=_linear([attention.o_proj]),
        gate_up=_linear([getattr(mlp, name) for name in gate_up]),
        down=_linear([mlp.down_proj]),
        rotation=kind if _rotates_by_kind(config) else "",
        window=_window(config, kind),
        scaling=float(scaling),
        softcap=float(getattr(attention, "attn_logit_softcapping", None) or 0),
    )


def _children(module: nn.Module) -> set[str]:
    """Names of the children that compute something in inference."""
    return {name for name, child in module.named_children() if not isinstance(child, nn.Dropout)}


def _norm(norm: nn.Module) -> NormWeight:
    eps, weight = epsilon(norm), norm._parameters.get("weight")
    if eps is not None and weight is not None:
        for factor in (weight, 1 + weight.float()):
            if multiplies_by(factor, norm, eps):
                return NormWeight(factor.detach().float().contiguous(), eps)
    raise NotRecognisedError(f"{type(norm).__name__} is no root mean square norm")


def _linear(layers: Sequence[Any]) -> LinearWeights:
    """Layers with the same input; all sparse with equal thresholds, or all dense."""
    if all(type(layer) is SparseLinear for layer in layers):
        threshold = layers[0].threshold
        _require(
            all(torch.equal(layer.threshold, threshold) for layer in layers),
            "layers with the same input have different thresholds",
        )
        weights = tuple(layer.weight_t for layer in layers)
        scales = tuple(layer.scale for layer in layers)
    else:
        _require(all(type(layer) is nn.Linear for layer in layers), "it mixes kinds of layers")
        threshold, scales = None, (None,) * len(layers)
        weights = tuple(layer.weight.detach() for layer in layers)
        _require(
            weights[0].dtype in (torch.float32, torch.bfloat16)
            and all(weight.is_contiguous() for weight in weights),
            f"it has dense layers in {weights[0].dtype}",
        )
    _require(len({weight.dtype for weight in weights}) == 1, "it mixes dtypes of layers")
    biases = tuple(layer.bias for layer in layers)
    return LinearWeights(weights, biases, scales, threshold)


def _outputs(linear: LinearWeights, *, by_inputs: bool = False) -> int:
    """The number of outputs, or of inputs."""
    is_dense, first = linear.threshold is None, linear.weights[0]
    if by_inputs:
        return first.shape[1 if is_dense else 0]
    return sum(
        len(weight) if is_dense else outputs(weight, scale)
        for weight, scale in zip(linear.weights, linear.scales, strict=True)
    )


def _sizes(block: BlockWeights) -> tuple[int, int, int, int]:
    """Inputs and outputs of the attention, inputs of gate and up, inputs of down."""
    return (
        _outputs(block.qkv, by_inputs=True),
        _outputs(block.qkv),
        _outputs(block.gate_up, by_inputs=True),
        _outputs(block.down, by_inputs=True),
    )


def _is_gelu(mlp: Any) -> bool:
    activation = getattr(mlp, "act_fn", getattr(mlp, "activation_fn", None))
    x = torch.linspace(-4, 4, 65)
    y = activation(x) if activation is not None else x
    for is_gelu, expected in ((False, F.silu(x)), (True, F.gelu(x, approximate="tanh"))):
        if torch.allclose(y, expected, atol=1e-6):
            return is_gelu
    raise NotRecognisedError("its MLP has another activation function")


def _kind(config: Any, place: int) -> str:
    kinds = getattr(config, "layer_types", None)
    kind = kinds[place] if kinds else ""
    _require(kind in ("", "full_attention", "sliding_attention"), f"it has layers of kind {kind}")
    return kind


def _window(config: Any, kind: str) -> int | None:
    window: int | None = getattr(config, "sliding_window", None)
    if kind == "full_attention" or not getattr(config, "use_sliding_window", True):
        return None
    return window


def _rotates_by_kind(config: Any) -> bool:
    """Whether the rotation depends on the kind of a layer; some depend on the length: refused."""
    parameters: Any = getattr(config, "rope_parameters", None) or {}
    by_kind = [value for value in parameters.values() if isinstance(value, Mapping)]
    for rotation in by_kind or [parameters]:
        kind = rotation.get("rope_type", "default")
        _require(kind in _ROTATIONS, f"its rotation is of kind {kind!r}")
    return bool(by_kind)


def _require(holds: bool, reason: str) -> None:
    if not holds:
        raise NotRecognisedError(reason)
