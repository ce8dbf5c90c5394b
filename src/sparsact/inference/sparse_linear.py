"""A linear layer for inference that skips inactive inputs where that is faster."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.calibration.first_positions import FirstPositions
from sparsact.calibration.linear_layers import is_conv1d, weight_t
from sparsact.inference.dense_crossing import crossings
from sparsact.inference.int4_weights import quantise
from sparsact.inference.shared_readers import Readers
from sparsact.kernels.ops.gather_linear import as_level, refuse_gradient
from sparsact.kernels.reference.int4 import widened

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "int8": torch.int8,
    "int4": torch.uint8,  # packed
}


class SparseLinear(nn.Module):
    """``y = W·(x·1[|x|>λ]) + b`` for inference, from an ``nn.Linear``.

    The weight is stored once, as (in, out). On a CPU, the first call with a number of rows (1,
    2–3, 4–7, …) measures how many active inputs make the dense product faster, with weights out of
    the cache. Layers of the same shape and dtype share the measurement within a process;
    `dense_above` shows it. Both ways sum in float32 and differ only by the order of the sums.
    Nothing is measured inside ``torch.compile``: see `sparsact.kernels.gather_linear`.

    The state dict is that of the dense layer, ``weight`` (out, in) and ``bias``, rounded to the
    stored dtype: checkpoints can be exchanged with the dense model. Loading one into an int4 layer
    rounds it again, with a slightly larger error. The state dict does not contain the threshold.
    ``.to`` moves the layer but does not change its dtypes, so a model may be cast after `sparsify`.

    Args:
        linear: the layer whose weight and bias are copied.
        threshold: λ ≥ 0, a number or a tensor of shape () or (in_features,).
        dtype: of the stored weight: ``"float32"``, ``"bfloat16"``, ``"int8"`` (one scale for each
            output channel, so that the largest weight becomes ±127) or ``"int4"`` (a scale for
            each output channel, and a scale and a minimum for 32 outputs of one input: 5 bits a
            weight, see `sparsact.kernels.reference.int4`).
        input_moments: (in_features, in_features), E[s·sᵀ] of the thresholded inputs s: the int4
            weight is rounded for the least error of the output on these (GPTQ).

    Shape:
        (..., in_features) to (..., out_features), in the dtype of the input. Dtypes other than
        float32 and bfloat16 are computed in float32.

    Gradient:
        none: the layer holds only buffers, and a call that would need a gradient raises.

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
        self,
        linear: nn.Module,
        threshold: float | Tensor,
        *,
        dtype: str = "float32",
        input_moments: Tensor | None = None,
    ) -> None:
        super().__init__()
        if dtype not in DTYPES:
            raise InputError(f"dtype= must be one of {', '.join(DTYPES)}; got {dtype!r}")
        if input_moments is not None and dtype != "int4":
            raise InputError(f"input_moments= is for dtype='int4', got {dtype!r}")
        weight: Tensor = weight_t(linear)
        bias: Any = linear.bias
        self.in_features, self.out_features = weight.shape
        self._source_dtype, self._transposed = weight.dtype, is_conv1d(linear)
        stored, scale = _stored(weight, DTYPES[dtype], input_moments)
        self.register_buffer("weight_t", stored)
        self.register_buffer("scale", scale)
        self.register_buffer("threshold", _as_threshold(threshold, weight))
        self.register_buffer("bias", None if bias is None else bias.detach().float().clone())
        self._readers, self._place = Readers([self]), 0

    @staticmethod
    def share(
        layers: Sequence["SparseLinear"], first_positions: FirstPositions | None = None
    ) -> None:
        """Let layers that are called with the same tensor, in this order, compute together.

        Args:
            layers: layers with equal thresholds. A layer that is called with another tensor than
                the previous one computes for all of them again; its output is correct.
            first_positions: finds the first tokens, which stay dense; None thresholds all.
        """
        readers = Readers(layers, first_positions)
        for place, layer in enumerate(layers):
            layer._readers, layer._place = readers, place

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output for `x`."""
        refuse_gradient(x)
        return self._readers.output(self._place, x)

    @property
    def weight(self) -> Tensor:
        """(out, in) as stored, because models ask for its dtype; int8 unscaled, int4 packed."""
        return self.weight_t if self._transposed else self.weight_t.t()

    @property
    def dense_weight_t(self) -> Tensor:
        """(in, out) float32: the weight that the stored one stands for."""
        weight_t = widened(self.weight_t, self.scale)
        return weight_t if self.scale is None else weight_t * self.scale

    @property
    def keep_first(self) -> int:
        """How many first tokens of a sequence are not thresholded."""
        first_positions = self._readers.first_positions
        return 0 if first_positions is None else first_positions.keep_first

    @property
    def is_transposed(self) -> bool:
        """Whether `weight` is (in, out), as in GPT-2's ``Conv1D``."""
        return self._transposed

    @property
    def dense_above(self) -> dict[int, float]:
        """For 1, 2 (to 3), 4 (to 7), … rows: the measured density above which dense is faster."""
        return {
            1 << bits >> 1: max(0, most) / self.in_features
            for bits, most in crossings().measured(self._readers.shapes()).items()
        }

    def extra_repr(self) -> str:
        """Sizes and the stored dtype."""
        stored = next(name for name, dtype in DTYPES.items() if dtype == self.weight_t.dtype)
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
        weight = self.dense_weight_t.to(self._source_dtype)
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
    own = as_level(threshold, weight.device).to(weight.device, torch.float32, copy=True)
    if own.shape not in ((), weight.shape[:1]):
        raise InputError(
            f"threshold= must be a number or of shape ({weight.shape[0]},), one for each input; "
            f"got {tuple(own.shape)}"
        )
    if not own.is_meta and not ((own >= 0) & own.isfinite()).all():
        raise InputError("threshold= must be finite and at least 0")
    return own


def _stored(
    weight: Tensor, dtype: torch.dtype, input_moments: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """A contiguous copy of a weight (in, out) in a dtype, and the scale of int8 and int4."""
    scale = None
    if dtype == torch.uint8:
        return quantise(weight, input_moments)
    if dtype == torch.int8:
        wide = weight.float()
        largest = torch.linalg.vector_norm(wide, torch.inf, 0) if len(wide) else wide.sum(0)
        scale = torch.where(largest > 0, largest / 127, 1.0)
        weight = (wide / scale).round()
    return weight.to(dtype).clone(memory_format=torch.contiguous_format), scale
