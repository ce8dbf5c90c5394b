"""One token through a language model's decoder, in one compiled call."""

import ctypes
from collections.abc import Mapping
from ctypes import POINTER, c_double, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor

from sparsact.kernels.cpu.gather import address, plain
from sparsact.kernels.cpu.library import ADDRESS, FLOATS, INTEGER, WEIGHTS, function
from sparsact.kernels.cpu.threads import threads
from sparsact.kernels.ops.decoder_weights import (
    BlockWeights,
    DecoderWeights,
    LinearWeights,
    NormWeight,
)
from sparsact.kernels.reference.int4 import outputs as _width

PARTS = ("norms", "linear layers", "attention", "head")
"""What the time of a token is split into."""

_token_step = function(
    "token_step",
    *(INTEGER, ADDRESS),  # threads, the decoder
    *(INTEGER, INTEGER, ADDRESS),  # position, whether thresholds are 0, seconds of each part
)


class _Norm(ctypes.Structure):
    _fields_ = (("weight", c_void_p), ("eps", c_double))


class _Source(ctypes.Structure):
    _fields_ = tuple((name, c_int64) for name in ("weight", "bias", "scale", "output", "width"))


class _Linear(ctypes.Structure):
    _fields_ = (
        ("sources", POINTER(_Source)),
        *((name, c_int64) for name in ("weights", "inputs", "outputs", "dtype")),
        ("level", c_void_p),
        ("per_input", c_int64),
    )


_NORMS = (
    *("before_attention", "after_attention", "before_mlp", "after_mlp"),
    *("query_norm", "key_norm"),
)


class _Block(ctypes.Structure):
    _fields_ = (
        *((name, _Norm) for name in _NORMS),
        *((name, _Linear) for name in ("qkv", "output", "gate_up", "down")),
        *((name, c_void_p) for name in ("keys", "values", "cosine", "sine")),
        ("window", c_int64),
        *((name, c_double) for name in ("scaling", "softcap")),
    )


_SIZES = (
    *("layers", "width", "hidden", "heads", "key_heads", "head_width", "rotated", "positions"),
    *("cache_dtype", "is_gelu"),
)
_BUFFERS = ("stream", "qkv", "attended", "update", "gate_up", "logits")


class _Decoder(ctypes.Structure):
    _fields_ = (
        ("blocks", POINTER(_Block)),
        *((name, c_int64) for name in _SIZES),
        *(("last_norm", _Norm), ("head", _Linear), ("softcap", c_double)),
        *((name, c_void_p) for name in _BUFFERS),
    )


class TokenStep:
    """A decoder with a cache of its own, for one sequence; the arguments must be valid.

    Weights are read by address and kept alive.

    Args:
        decoder: the weights.
        rotations: cosines and sines of each rotation, (positions, rotated width) float32.

    Attributes:
        keys: (blocks, key heads, positions, head width).
        values: the same for the values.
        stream: (width,), the residual stream: a call reads it, and leaves the last block's output.
    """

    def __init__(
        self, decoder: DecoderWeights, rotations: Mapping[str, tuple[Tensor, Tensor]]
    ) -> None:
        cosine, _ = next(iter(rotations.values()))
        self._alive: list[Any] = [decoder, rotations]
        positions = len(cosine)
        shape = (len(decoder.blocks), decoder.key_heads, positions, decoder.head_width)
        self.keys = torch.zeros(shape, dtype=decoder.cache_dtype)
        self.values = torch.zeros(shape, dtype=decoder.cache_dtype)
        head = zip(_by_inputs(decoder.head), decoder.head.scales, strict=True)
        widths = {
            "stream": decoder.width,
            "qkv": (decoder.heads + 2 * decoder.key_heads) * decoder.head_width,
            "attended": decoder.heads * decoder.head_width,
            "update": decoder.width,
            "gate_up": 2 * decoder.hidden,
            "logits": sum(_width(weight, scale) for weight, scale in head),
        }
        self._buffers = {name: torch.zeros(width) for name, width in widths.items()}
        self.stream = self._buffers["stream"]
        self._logits, self._seconds = self._buffers["logits"], torch.zeros(4, dtype=torch.float64)
        blocks = (_Block * len(decoder.blocks))(
            *(self._block(place, block, rotations) for place, block in enumerate(decoder.blocks))
        )
        self._decoder = _Decoder(
            blocks,
            *(len(decoder.blocks), decoder.width, decoder.hidden, decoder.heads),
            *(decoder.key_heads, decoder.head_width, cosine.shape[1], positions),
            *(FLOATS[decoder.cache_dtype], decoder.is_gelu),
            self._norm(decoder.last_norm),
            self._linear(decoder.head, "logits"),
            decoder.softcap,
            *(self._buffers[name].data_ptr() for name in _BUFFERS),
        )
        self._address = ctypes.addressof(self._decoder)
        self._threads = max(decoder.width, decoder.hidden) // 64  # pieces of work

    @property
    def positions(self) -> int:
        """How many tokens the cache holds at most."""
        return self.keys.shape[2]

    def __call__(self, x: Tensor, position: int, is_dense: bool = False) -> Tensor:
        """Append a token to the cache at `position` and return its logits (out,) in float32.

        The result is overwritten by the next call.

        Args:
            x: (width,), the token's embedding.
            position: below `positions`. The cache holds all earlier ones.
            is_dense: whether thresholds count as 0.
        """
        self._run(x, position, is_dense, 0)
        return self._logits

    def seconds(self, x: Tensor, position: int) -> dict[str, float]:
        """Do the same, and return the seconds of each of `PARTS` instead."""
        self._seconds.zero_()
        self._run(x, position, False, self._seconds.data_ptr())
        return dict(zip(PARTS, self._seconds.tolist(), strict=True))

    def _run(self, x: Tensor, position: int, is_dense: bool, seconds: int) -> None:
        if not 0 <= position < self.positions:
            raise IndexError(f"position {position} of a cache of {self.positions}")
        self.stream.copy_(x)
        _token_step(threads(self._threads), self._address, position, is_dense, seconds)

    def _block(
        self, place: int, block: BlockWeights, rotations: Mapping[str, tuple[Tensor, Tensor]]
    ) -> _Block:
        return _Block(
            *(self._norm(getattr(block, name)) for name in _NORMS),
            self._linear(block.qkv, "qkv"),
            self._linear(block.output, "update"),
            self._linear(block.gate_up, "gate_up"),
            self._linear(block.down, "update"),
            *(self.keys[place].data_ptr(), self.values[place].data_ptr()),
            *(table.data_ptr() for table in rotations[block.rotation]),
            self.positions if block.window is None else block.window,
            *(block.scaling, block.softcap),
        )

    def _norm(self, norm: NormWeight | None) -> _Norm:
        return _Norm() if norm is None else _Norm(norm.weight.data_ptr(), norm.eps)

    def _linear(self, linear: LinearWeights, buffer: str) -> _Linear:
        output, sources = self._buffers[buffer].data_ptr(), []
        for weight, bias, scale in zip(
            _by_inputs(linear), map(_plain, linear.biases), map(_plain, linear.scales), strict=True
        ):
            self._alive += [bias, scale]
            width = _width(weight, scale)
            sources.append(_Source(weight.data_ptr(), address(bias), address(scale), output, width))
            output += 4 * width
        level = _plain(linear.threshold)
        self._alive.append(level)
        return _Linear(
            (_Source * len(sources))(*sources),
            len(sources),
            len(_by_inputs(linear)[0]) if sources else 0,
            sum(source.width for source in sources),
            WEIGHTS[linear.weights[0].dtype] if sources else 0,
            address(level),
            0 if level is None else level.ndim,
        )


def _by_inputs(linear: LinearWeights) -> list[Tensor]:
    """The weights as (in, out)."""
    return [w if linear.threshold is not None else w.t() for w in linear.weights]


def _plain(vector: Tensor | None) -> Tensor | None:
    return None if vector is None else plain(vector)
