"""Linear layers that read the same tensor: the first that is called computes for all."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sparsact.calibration.first_positions import FirstPositions
from sparsact.hooks import version_of
from sparsact.inference.crossing import Shapes, find_crossing, inputs_at_most
from sparsact.kernels.ops.gather_linear import GatherLinear, multiply_any


class _Held(NamedTuple):
    x: Tensor
    version: int
    outputs: dict[int, Tensor]


class Readers:
    """The sparse layers of one input site, in the order in which a forward calls them.

    A call with the tensor that an earlier reader has just been called with takes what that one
    computed for it. Threads that share a model may compute twice, but never get each other's.
    """

    def __init__(self, layers: Sequence[nn.Module], whole: FirstPositions | None = None) -> None:
        self.layers, self.whole = list(layers), whole
        self._held: _Held | None = None
        self._most: dict[tuple[torch.dtype, int, int], int] = {}
        self._prepared: tuple[list[int], GatherLinear] | None = None

    def output(self, place: int, x: Tensor) -> Tensor:
        """What the layer at `place` gives for `x`."""
        held = self._held
        if held is not None and _same(held, x):
            # each output is given away once: who gets it may change it, or the input, in place
            found = held.outputs.pop(place, None)
            if not held.outputs:
                self._held = None
            if found is not None:
                return found
        outputs = self.product(x, self._inputs_at_most(x))
        if len(outputs) > 1:
            others = {other: y for other, y in enumerate(outputs) if other != place}
            version = -1 if torch.compiler.is_compiling() else version_of(x)
            self._held = _Held(x, version, others)
        return outputs[place]

    def __getstate__(self) -> dict[str, Any]:
        """Without what an interrupted forward has left, and without addresses of memory."""
        return {**self.__dict__, "_held": None, "_prepared": None}

    def product(self, x: Tensor, inputs_at_most: int) -> list[Tensor]:
        """The outputs of all layers, dense beyond so many active inputs."""
        whole = self.whole is not None and self.whole.first is not None
        if not whole and not torch.compiler.is_compiling():
            return self._prepare()(x, inputs_at_most)
        weights_t, threshold, biases, scales = self._arguments()
        if self.whole is not None and whole:
            x = self.whole.restore(x, x.masked_fill(x.abs().float() <= threshold, 0))
            threshold = torch.zeros_like(threshold)
        return multiply_any(x, weights_t, threshold, biases, scales, inputs_at_most)

    def _prepare(self) -> GatherLinear:
        # other tensors in the layers' places, as after `.to`, are prepared anew
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
        """What layers must have in common to share a measurement, beside the rows and threads."""
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
            level: Any = self.layers[0]._buffers["threshold"]
            most = self._most[about] = inputs_at_most(
                (self.shapes(), *about), lambda: find_crossing(self.product, x, level)
            )
        return most


def _same(held: _Held, x: Tensor) -> bool:
    """Whether `x` is what was held, or a view of the whole of it, and has not changed since."""
    other = held.x
    if torch.compiler.is_compiling():
        return other is x  # the trace knows no addresses
    if other is not x and (
        other.data_ptr() != x.data_ptr()
        or other.shape != x.shape
        or other.stride() != x.stride()
        or other.dtype != x.dtype
    ):
        return False
    return held.version == version_of(x)
