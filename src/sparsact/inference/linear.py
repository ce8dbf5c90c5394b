"""A linear layer for inference that skips inactive inputs where that was measured to be faster."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sparsact.calibration.first_positions import FirstPositions
from sparsact.calibration.linear_layers import is_conv1d, weight_t
from sparsact.inference.crossing import measured
from sparsact.inference.readers import Readers
from sparsact.kernels.ops.gather_linear import as_level, refuse_gradient

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}


class SparseLinear(nn.Module):
    """``y = W·(x·1[|x|>λ]) + b`` for inference, from an ``nn.Linear``.

    The weight is kept once, as (in, out). On a CPU the first call with about so many rows (1, 2–3,
    4–7, …) measures, for the layer's shape, how many active inputs make the dense product faster,
    with weights out of the cache. Layers of one shape and dtype share that measurement within a
    process; `dense_above` shows it. Both ways sum in float32 and differ by the order of the sums.
    Inside ``torch.compile`` nothing is measured: see `sparsact.kernels.gather_linear`.

    Its state dict is that of the dense layer, ``weight`` (out, in) and ``bias``, rounded to the
    stored dtype: a checkpoint of it loads into the dense model, and one of the dense model into it.
    The threshold is no part of it. ``.to`` moves the layer and leaves its dtypes: a model may be
    cast after it was made sparse.

    Args:
        linear: the layer whose weight and bias are copied.
        threshold: λ ≥ 0, a number or a tensor of shape () or (in_features,).
        dtype: of the stored weight: ``"float32"``, ``"bfloat16"`` or ``"int8"`` (one scale for each
            output channel, so that the largest weight becomes ±127).

    Shape:
        (..., in_features) to (..., out_features), in the dtype of the input; one that is neither
        float32 nor bfloat16 is computed in float32.

    Gradient:
        none: everything it holds is a buffer, and a call that would need a gradient raises.

    Example:
        >>> linear = torch.nn.Linear(3, 2)
        >>> layer = SparseLinear(linear, 0.5)
        >>> x = torch.tensor([0.1, -2.0, 3.0])
        >>> with torch.no_grad():
        ...     torch.allclose(layer(x), linear(torch.tensor([0.0, -2.0, 3.0])))
        True
    """

    weight_t: Tensor
    threshold: Tensor
    scale: Tensor | None
    bias: Tensor | None

    def __init__(
        self, linear: nn.Module, threshold: float | Tensor, *, dtype: str = "float32"
    ) -> None:
        super().__init__()
        if dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}; got {dtype!r}")
        weight: Tensor = weight_t(linear)
        bias: Any = linear.bias
        self.in_features, self.out_features = weight.shape
        self._source_dtype, self._transposed = weight.dtype, is_conv1d(linear)
        stored, scale = _stored(weight, DTYPES[dtype])
        self.register_buffer("weight_t", stored)
        self.register_buffer("scale", scale)
        self.register_buffer("threshold", _as_threshold(threshold, weight))
        self.register_buffer("bias", None if bias is None else bias.detach().float().clone())
        self._readers, self._place = Readers([self]), 0

    @staticmethod
    def share(layers: Sequence["SparseLinear"], whole: FirstPositions | None = None) -> None:
        """Let layers that are called with one tensor, in this order, compute together.

        Args:
            layers: with equal thresholds. One that is called with another tensor than the layer
                before computes for all of them again, and its output is right.
            whole: rows that are not thresholded, if any.
        """
        readers = Readers(layers, whole)
        for place, layer in enumerate(layers):
            layer._readers, layer._place = readers, place

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output for `x`."""
        refuse_gradient(x)
        return self._readers.output(self._place, x)

    @property
    def weight(self) -> Tensor:
        """(out, in) as stored, whose dtype models ask for; int8 is without its scale."""
        return self.weight_t if self._transposed else self.weight_t.t()

    @property
    def dense_above(self) -> dict[int, float]:
        """Measured for 1, 2 (to 3), 4 (to 7), … rows: the density beyond which dense is taken."""
        return {
            1 << bits >> 1: max(0, most) / self.in_features
            for bits, most in measured(self._readers.shapes()).items()
        }

    def extra_repr(self) -> str:
        """Sizes and the stored dtype."""
        stored = str(self.weight_t.dtype).removeprefix("torch.")
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}, dtype={stored}"
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "SparseLinear":
        for name, buffer in self._buffers.items():
            if buffer is not None:
                self._buffers[name] = buffer.to(fn(buffer).device)
        return self

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        weight = self.weight_t.to(self._source_dtype)
        if self.scale is not None:
            weight = (self.weight_t * self.scale).to(self._source_dtype)
        destination[prefix + "weight"] = (weight if self._transposed else weight.t()).contiguous()
        if self.bias is not None:
            destination[prefix + "bias"] = self.bias.to(self._source_dtype)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        weight = state_dict.pop(prefix + "weight", None)
        if weight is not None:
            weight = weight if self._transposed else weight.t()
            stored, scale = _stored(weight, self.weight_t.dtype)
            state_dict[prefix + "weight_t"] = stored
            if scale is not None:
                state_dict[prefix + "scale"] = scale
        state_dict[prefix + "threshold"] = self.threshold
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _as_threshold(threshold: float | Tensor, weight: Tensor) -> Tensor:
    level = as_level(threshold, weight.device).to(weight.device, torch.float32, copy=True)
    if level.shape not in ((), weight.shape[:1]):
        raise ValueError(
            f"threshold must be a number or of shape ({weight.shape[0]},), one for each input; "
            f"got {tuple(level.shape)}"
        )
    if not ((level >= 0) & level.isfinite()).all():
        raise ValueError("threshold must be finite and at least 0")
    return level


def _stored(weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """A copy of a weight (in, out) in memory of its own, and what int8 is to be multiplied by."""
    scale = None
    if dtype == torch.int8:
        wide = weight.float()
        largest = torch.linalg.vector_norm(wide, torch.inf, 0) if len(wide) else wide.sum(0)
        scale = torch.where(largest > 0, largest / 127, 1.0)
        weight = (wide / scale).round()
    return weight.to(dtype).clone(memory_format=torch.contiguous_format), scale
