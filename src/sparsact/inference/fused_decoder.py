"""A language model whose decoder runs one token in one compiled call."""

import copy
import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from sparsact.hooks import version_of
from sparsact.inference.decoder_blocks import (
    NotRecognisedError,
    decoder_of,
    read_decoder,
    rotation_tables,
)
from sparsact.inference.dense_crossing import Crossings, use_crossings
from sparsact.inference.sparse_linear import SparseLinear
from sparsact.kernels.cpu import library
from sparsact.kernels.definition import kernel
from sparsact.kernels.ops.decoder_weights import DecoderWeights, LinearWeights

_SAMPLE = 6  # tokens on which the compiled step is compared with the modules
_TOLERANCE = 1e-3  # of the norm of a block's update; float32 rounding is far below, mistakes above
_NO_HEAD = LinearWeights((), (), (), None)


class LayerByLayerWarning(UserWarning):
    """A model runs layer by layer, because the compiled step of a token does not fit it."""


@dataclasses.dataclass(frozen=True, eq=False)
class FusedDecoder:
    """The decoder of a model, compared with its modules.

    Attributes:
        weights: what the compiled step reads.
        embedding_factor: of the embeddings before the first block.
        keep_first: how many first tokens of a sequence stay dense.
    """

    weights: DecoderWeights
    embedding_factor: float
    keep_first: int

    def session(self, model: nn.Module, positions: int) -> "Session":
        """An empty cache for this many tokens."""
        step = _step(self.weights, rotation_tables(model, self.weights, positions))
        return Session(self, decoder_of(model).embed_tokens, step)


class Session:
    """One sequence: the cache of keys and values, and how many tokens it holds."""

    def __init__(self, decoder: FusedDecoder, embedding: nn.Module, step: Any) -> None:
        self._decoder, self._embedding, self.step = decoder, embedding, step
        self.length = 0

    def take(self, cache: Any, length: int) -> None:
        """Copy a cache of transformers that has seen `length` tokens."""
        for place, layer in enumerate(cache.layers):
            count = layer.keys.shape[-2]  # a layer with a window keeps only the last tokens
            rows = slice(length - count, length)
            self.step.keys[place, :, rows] = layer.keys[0]
            self.step.values[place, :, rows] = layer.values[0]
        self.length = length

    def append(self, token: int) -> Tensor:
        """Append a token; returns its logits (vocabulary,), overwritten by the next call."""
        logits: Tensor = self.step(self.embed(token), self.length, self._is_dense())
        self.length += 1
        return logits

    def seconds(self, token: int) -> dict[str, float]:
        """Append a token; returns the seconds that its parts took."""
        seconds: dict[str, float] = self.step.seconds(self.embed(token), self.length)
        self.length += 1
        return seconds

    def embed(self, token: int) -> Tensor:
        """The embedding (width,) as the first block reads it."""
        x: Tensor = self._embedding(torch.tensor([token]))[0]
        factor = self._decoder.embedding_factor
        return x if factor == 1 else x.float() * factor

    def _is_dense(self) -> bool:
        return self.length < self._decoder.keep_first


_prepared: WeakKeyDictionary[nn.Module, tuple[list[Any], FusedDecoder | None]] = WeakKeyDictionary()


def fused_decoder(model: nn.Module) -> FusedDecoder | None:
    """The model's decoder for the compiled step, or None with a `LayerByLayerWarning`, said once.

    It is read and checked again when a tensor, module or hook of the model has changed.
    """
    state = _state(model)
    known = _prepared.get(model)
    if known is None or known[0] != state:
        known = _prepared[model] = (state, _prepare(model))
    return known[1]


def _state(model: nn.Module) -> list[Any]:
    """What changes when a model may compute something else."""
    tensors = [*model.parameters(), *model.buffers()]
    return [
        *[(tensor.data_ptr(), version_of(tensor)) for tensor in tensors],
        *[
            (id(module), module.training, id(module.__dict__.get("forward")))
            for module in model.modules()
        ],
        *[
            (*module._forward_hooks, *module._forward_pre_hooks)  # their numbers
            for module in model.modules()
        ],
    ]


def _prepare(model: nn.Module) -> FusedDecoder | None:
    if not library.is_built():
        return None
    try:
        with torch.inference_mode():
            weights = read_decoder(model)
            _check_blocks(model, weights)
            factor = _check_ends(model, weights)
    except NotRecognisedError as reason:
        warnings.warn(
            f"{type(model).__name__} runs layer by layer, without the compiled step: {reason}",
            LayerByLayerWarning,
            stacklevel=4,
        )
        return None
    return FusedDecoder(weights, factor, _keep_first(model))


def _keep_first(model: nn.Module) -> int:
    layers = [module for module in model.modules() if isinstance(module, SparseLinear)]
    return max((layer.keep_first for layer in layers), default=0)


def _step(weights: DecoderWeights, tables: Mapping[str, tuple[Tensor, Tensor]]) -> Any:
    return kernel("token_step", "TokenStep")(weights, tables)


def _check_blocks(model: nn.Module, weights: DecoderWeights) -> None:
    """Compare each block with its module, in float32 and on random inputs.

    Most of the tokens must agree: in a rare one, rounding moves an entry across its threshold.
    """
    x = torch.randn(_SAMPLE, weights.width, generator=torch.Generator().manual_seed(0))
    tables = rotation_tables(model, weights, _SAMPLE)
    for layer, block in zip(decoder_of(model).layers, weights.blocks, strict=True):
        alone = dataclasses.replace(
            weights, blocks=(block,), head=_NO_HEAD, cache_dtype=torch.float32
        )
        step = _step(alone, tables)
        actual = torch.empty_like(x)
        for position in range(_SAMPLE):
            step(x[position], position)
            actual[position] = step.stream
        expected = _module_output(layer, x, tables[block.rotation], block.window)
        apart = (actual - expected).norm(dim=1) / (expected - x).norm(dim=1)
        if not apart.median() < _TOLERANCE:
            raise NotRecognisedError(f"{type(layer).__name__} computes something else")


def _module_output(
    layer: nn.Module, x: Tensor, rotation: tuple[Tensor, Tensor], window: int | None
) -> Tensor:
    """What a block's module computes in float32, without a copy of the sparse weights."""
    stays = [m for m in layer.modules() if isinstance(m, SparseLinear)]
    shared = [buffer for sparse in stays for buffer in sparse.buffers()]
    shared += [parameter for parameter in layer.parameters() if parameter.dtype == torch.float32]
    copied = copy.deepcopy(layer, {id(tensor): tensor for tensor in shared}).float()
    places = torch.arange(len(x))
    distance = places[:, None] - places
    is_read = (distance >= 0) & (distance < (window or len(x)))
    mask = torch.zeros(len(x), len(x)).masked_fill(~is_read, -torch.inf)
    with use_crossings(Crossings(lambda *functions: [0.0] * len(functions))):
        output: Any = copied(
            x[None],
            attention_mask=mask[None, None],
            position_ids=places[None],
            position_embeddings=tuple(table[None] for table in rotation),
        )
    output = output[0] if isinstance(output, tuple) else output
    return output[0]  # type: ignore[no-any-return]


def _check_ends(model: nn.Module, weights: DecoderWeights) -> float:
    """Compare the last norm and the head with the model; returns the factor of the embeddings."""
    inner, seen = decoder_of(model), {}

    def see(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen[name] = (args[0] if args else kwargs["hidden_states"])[0, 0].float()

        return hook

    watched = {"first": inner.layers[0], "last": inner.norm}
    handles = [
        module.register_forward_pre_hook(see(name), with_kwargs=True)
        for name, module in watched.items()
    ]
    try:
        token = torch.tensor([[1]])
        expected = model(input_ids=token, use_cache=False).logits[0, 0].float()
    finally:
        for handle in handles:
            handle.remove()
    embedded = inner.embed_tokens(token)[0, 0].float()
    factor = float(seen["first"].norm() / embedded.norm().clamp(min=1e-30))
    factor = 1.0 if abs(factor - 1) < 1e-6 else factor
    step = _step(dataclasses.replace(weights, blocks=()), rotation_tables(model, weights, 1))
    actual = step(seen["last"], 0)
    rounding = _TOLERANCE if expected.dtype == model.dtype else 2**-5
    for ours, theirs in ((factor * embedded, seen["first"]), (actual, expected)):
        if ours.shape != theirs.shape or not (ours - theirs).norm() <= rounding * theirs.norm():
            raise NotRecognisedError("its embedding or output head computes something else")
    return factor
