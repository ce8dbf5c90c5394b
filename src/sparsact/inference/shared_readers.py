"""Linear layers that read the same tensor: the one that is called first computes for all."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sparsact.calibration.first_positions import FirstPositions
from sparsact.hooks import version_of
from sparsact.inference.dense_crossing import Shapes, crossings
from sparsact.kernels.ops.gather_linear import GatherLinear, multiply_any


class _Held(NamedTuple):
    """Outputs that other readers of `x` have not taken yet."""

    x: Tensor
    version: int
    outputs: dict[int, Tensor]


class Readers:
    """The sparse layers of one input site, in the order in which a forward calls them.

    The first call with a tensor computes the outputs of all readers; the others take theirs.
    Threads that share a model may compute twice, but never take each other's outputs.

    Args:
        layers: sparse layers with equal thresholds.
        first_positions: finds the first tokens, which stay dense; None thresholds all.
    """

    def __init__(
        self, layers: Sequence[nn.Module], first_positions: FirstPositions | None = None
    ) -> None:
        self.layers, self.first_positions = list(layers), first_positions
        self._held: _Held | None = None
        self._most: dict[tuple[torch.dtype, int, int], int] = {}
        self._prepared: tuple[list[int], GatherLinear] | None = None

    def output(self, place: int, x: Tensor) -> Tensor:
        """The output of the layer at `place` for `x`."""
        held = self._held
        if held is not None and _is_same(held, x):
            # each output is taken once: its receiver may change it, or the input, in place
            output = held.outputs.pop(place, None)
            if not held.outputs:
                self._held = None
            if output is not None:
                return output
        outputs = self.product(x, self._inputs_at_most(x))
        if len(outputs) > 1:
            remaining = {other: y for other, y in enumerate(outputs) if other != place}
            version = -1 if torch.compiler.is_compiling() else version_of(x)
            self._held = _Held(x, version, remaining)
        return outputs[place]

    def __getstate__(self) -> dict[str, Any]:
        """The state without outputs of an interrupted forward and without memory addresses."""
        return {**self.__dict__, "_held": None, "_prepared": None}

    def product(self, x: Tensor, inputs_at_most: int) -> list[Tensor]:
        """The outputs of all layers; dense if more inputs than that are active."""
        some_stay_dense = (
            self.first_positions is not None and self.first_positions.first is not None
        )
        if not some_stay_dense and not torch.compiler.is_compiling():
            return self._prepare()(x, inputs_at_most)
        weights_t, threshold, biases, scales = self._arguments()
        if self.first_positions is not None and some_stay_dense:
            shrunk = x.masked_fill(x.abs().float() <= threshold, 0)
            x = self.first_positions.restore(x, shrunk)
            threshold = torch.zeros_like(threshold)
        return multiply_any(x, weights_t, threshold, biases, scales, inputs_at_most)

    def _prepare(self) -> GatherLinear:
        # replaced buffers, as after `.to`, are prepared again
        buffers = [id(buffer) for layer in self.layers for buffer in layer._buffers.values()]
        prepared = self._prepared
        if prepared is None or prepared[0] != buffers:
            prepared = self._prepared = (buffers, GatherLinear(*self._arguments()))
        return prepared[1]

    def _arguments(self) -> Any:
        own: list[Any] = [layer._buffers for layer in self.layers]
        weights_t, biases, scales = (
            [buffers[name] for buffers in own] for name in ("weight_t", "bias", "scale")
        )
        return weights_t, own[0]["threshold"], biases, scales

    def shapes(self) -> Shapes:
        """What layers must have in common to share a measurement, besides rows and threads."""
        weights: list[Any] = [layer._buffers["weight_t"] for layer in self.layers]
        return (*[weight.shape for weight in weights], weights[0].dtype)

    def _inputs_at_most(self, x: Tensor) -> int:
        inputs: Any = self.layers[0].in_features
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return int(inputs)
        rows = x.numel() // inputs if inputs else 0
        about = (x.dtype, rows.bit_length(), torch.get_num_threads())
        most = self._most.get(about)
        if most is None:
            threshold: Any = self.layers[0]._buffers["threshold"]
            case = (self.shapes(), *about)
            most = crossings().inputs_at_most(case, self.product, x, threshold)
            self._most[about] = most
        return most


def _is_same(held: _Held, x: Tensor) -> bool:
    """Whether `x` is the held tensor, or a view of all of it, and has not changed since."""
    other = held.x
    if torch.compiler.is_compiling():
        return other is x  # a trace has no addresses
    if other is not x and (
        other.data_ptr() != x.data_ptr()
        or other.shape != x.shape
        or other.stride() != x.stride()
        or other.dtype != x.dtype
    ):
        return False
    return held.version == version_of(x)
