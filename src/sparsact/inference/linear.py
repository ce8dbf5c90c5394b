"""A linear layer for inference that skips inactive inputs where that was measured to be faster."""

import functools
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from sparsact.kernels.gather import as_level, refuse_gradient

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}
_REPEATS = 5
_COLD_BYTES = 1 << 26  # read between two runs, so that each meets its weights out of the cache

_Case = tuple[torch.Size, torch.dtype, torch.dtype, int, int]
_inputs_at_most: dict[_Case, int] = {}


class SparseLinear(nn.Module):
    """``y = W·(x·1[|x|>λ]) + b`` for inference, from an ``nn.Linear``.

    The weight is kept once, as (in, out). On a CPU the first call with about so many rows (1, 2–3,
    4–7, …) measures, for the layer's shape, how many active inputs make the dense product faster,
    with weights out of the cache. Layers of one shape and dtype share that measurement within a
    process; `dense_above` shows it. Both ways sum in float32 and differ by the order of the sums.
    Inside ``torch.compile`` nothing is measured: see `sparsact.kernels.gather_linear`.

    Args:
        linear: the layer whose weight and bias are copied.
        threshold: λ ≥ 0, a number or a tensor of shape () or (in_features,).
        dtype: of the stored weight: ``"float32"``, ``"bfloat16"`` or ``"int8"`` (one scale for each
            output channel, so that the largest weight becomes ±127).

    Shape:
        (..., in_features) to (..., out_features), float32 or bfloat16, as the input.

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
        self, linear: nn.Linear, threshold: float | Tensor, *, dtype: str = "float32"
    ) -> None:
        super().__init__()
        if dtype not in _DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(_DTYPES)}; got {dtype!r}")
        weight_t = linear.weight.detach().t()
        level = as_level(threshold, weight_t.device).to(torch.float32, copy=True)
        if level.shape not in ((), (linear.in_features,)):
            raise ValueError(
                f"threshold must be a number or of shape ({linear.in_features},), one for each "
                f"input; got {tuple(level.shape)}"
            )
        if not ((level >= 0) & level.isfinite()).all():
            raise ValueError("threshold must be finite and at least 0")
        weight_t, scale = _quantised(weight_t) if dtype == "int8" else (weight_t, None)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        contiguous = torch.contiguous_format
        weight_t = weight_t.to(_DTYPES[dtype]).clone(memory_format=contiguous)
        self.register_buffer("weight_t", weight_t)
        self.register_buffer("scale", scale)
        self.register_buffer("threshold", level)
        self.register_buffer(
            "bias", None if linear.bias is None else linear.bias.detach().float().clone()
        )

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output for `x`."""
        refuse_gradient(x)
        if torch.compiler.is_compiling() or x.device.type != "cpu":
            return self._apply_below(x, self.in_features)
        rows = x.numel() // self.in_features if self.in_features else 0
        case = (
            self.weight_t.shape,
            self.weight_t.dtype,
            x.dtype,
            torch.get_num_threads(),
            rows.bit_length(),
        )
        most = _inputs_at_most.get(case)
        if most is None:
            most = _inputs_at_most[case] = self._measure(x)
        return self._apply_below(x, most)

    @property
    def dense_above(self) -> dict[int, float]:
        """Measured for 1, 2 (to 3), 4 (to 7), … rows: the density beyond which dense is taken."""
        return {
            1 << bits >> 1: max(0, most) / self.in_features
            for (shape, dtype, _, threads, bits), most in _inputs_at_most.items()
            if (shape, dtype, threads)
            == (self.weight_t.shape, self.weight_t.dtype, torch.get_num_threads())
        }

    def extra_repr(self) -> str:
        """Sizes and the stored dtype."""
        stored = str(self.weight_t.dtype).removeprefix("torch.")
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}, dtype={stored}"
        )

    def _apply_below(self, x: Tensor, inputs_at_most: int) -> Tensor:
        outputs: list[Tensor] = torch.ops.sparsact.gather_linear.default(
            x, [self.weight_t], self.threshold, [self.bias], [self.scale], inputs_at_most
        )
        return outputs[0]

    def _measure(self, x: Tensor) -> int:
        """The number of active inputs up to which skipping is the faster way for rows like `x`."""
        inputs = self.in_features
        if self._apply_below(x, inputs).numel() == 0 or inputs == 0:  # raises on a wrong input
            return inputs
        active = 2 * self.threshold.max() + 1
        full = torch.full_like(x, float(active), memory_format=torch.contiguous_format)
        half = full.clone()
        half[..., ::2] = 0
        all_ms, half_ms, dense_ms = _shortest(
            lambda: self._apply_below(full, inputs),
            lambda: self._apply_below(half, inputs),
            lambda: self._apply_below(full, -1),
        )
        return crossing(inputs, all_ms, half_ms, dense_ms)


def crossing(inputs: int, all_ms: float, half_ms: float, dense_ms: float) -> int:
    """Where the line through skipping's times with all and half the inputs meets the dense time."""
    if all_ms <= dense_ms:
        return inputs
    slope = (all_ms - half_ms) / (inputs - inputs // 2)
    if slope <= 0:  # skipping does not pay at all
        return -1
    return max(-1, int(inputs - (all_ms - dense_ms) / slope))


def _shortest(*sides: Callable[[], Tensor]) -> list[float]:
    # the shortest of the runs: what else the machine does must not settle the choice
    times: list[list[float]] = [[] for _ in sides]
    for run in sides:
        run()
    for _ in range(_REPEATS):
        for run, spent in zip(sides, times, strict=True):
            _cold().sum()
            start = time.perf_counter()
            run()
            spent.append(1e3 * (time.perf_counter() - start))
    return [min(spent) for spent in times]


@functools.cache
def _cold() -> Tensor:
    return torch.zeros(_COLD_BYTES // 4)


def _quantised(weight_t: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers up to ±127 and what they are to be multiplied by, per output channel."""
    wide = weight_t.float()
    largest = torch.linalg.vector_norm(wide, torch.inf, 0) if len(wide) else wide.sum(0)
    scale = torch.where(largest > 0, largest / 127, 1.0)
    return (wide / scale).round(), scale
