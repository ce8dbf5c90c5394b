"""Linear layers that do not read the weights of inactive inputs; for inference."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sparsact.kernels._library import define, kernel, numba_is_installed
from sparsact.kernels._reference import gather as reference
from sparsact.kernels.compress import check_level

_COMPILED = (torch.float32, torch.bfloat16)


def gather_linear(
    x: Tensor,
    weight_t: Tensor,
    threshold: float | Tensor,
    bias: Tensor | None = None,
    *,
    scale: Tensor | None = None,
) -> Tensor:
    """``y = W·(x·1[|x|>λ]) + b``, reading only the weights of the active inputs.

    One row of `x` reads the weights of its own active inputs; a few rows read those that are active
    in any of them, and each row is still thresholded on its own. Many rows take a dense product.

    Args:
        x: (..., in), float32 or bfloat16. A non-contiguous one is copied.
        weight_t: (in, out), the transpose of ``nn.Linear``'s weight, contiguous: what belongs to
            one input is one run of memory. float32, bfloat16 or int8; its entries are taken to be
            finite (a skipped inf or NaN has no effect).
        threshold: λ ≥ 0, a number or a tensor of shape () or (in,), one for each input channel,
            whose values are taken to be so: reading them would cost as much as a small layer. It
            is compared in float32, not rounded to the dtype of `x`. A NaN in `x` is active.
        bias: (out,).
        scale: (out,), what an int8 weight is multiplied by, for each output channel.

    Returns:
        (..., out) in the dtype of `x`; sums are float32.

    Gradient:
        none: this is for inference.

    Raises:
        RuntimeError: a gradient would be needed.
        TypeError: dtypes other than those above.
        ValueError: wrong shapes or devices, a weight that is not contiguous, an int8 weight without
            its scale, or a number λ that is negative or not finite.

    Example:
        >>> x = torch.tensor([0.1, -2.0, 3.0])
        >>> weight_t = torch.tensor([[1.0, 1.0], [2.0, 0.0], [0.0, 1.0]])
        >>> gather_linear(x, weight_t, 0.5)
        tensor([-4.,  3.])

    Source:
        Liu et al. 2024, "Training-free activation sparsity in large language models" (TEAL): inputs
        below a magnitude are skipped. Union over a batch and the CPU kernel are ours.
    """
    return gather_linear_shared(x, [weight_t], threshold, [bias], scales=[scale])[0]


def gather_linear_shared(
    x: Tensor,
    weights_t: Sequence[Tensor],
    threshold: float | Tensor,
    biases: Sequence[Tensor | None] | None = None,
    *,
    scales: Sequence[Tensor | None] | None = None,
) -> list[Tensor]:
    """`gather_linear` for several weights that read the same `x`, which is compacted once.

    The query, key and value projections of an attention layer are such weights, and the gate and
    up projections of a gated MLP.

    Args:
        x: (..., in), as for `gather_linear`.
        weights_t: each (in, out of its own), all of one dtype.
        threshold: λ, as for `gather_linear`.
        biases: one or None for each weight; none at all by default.
        scales: likewise, for int8 weights.

    Returns:
        for each weight what `gather_linear` gives.

    Gradient:
        none: this is for inference.

    Raises:
        RuntimeError: a gradient would be needed.
        TypeError: dtypes other than those of `gather_linear`, or weights of several dtypes.
        ValueError: as for `gather_linear`, or not one bias and scale for each weight.

    Example:
        >>> query, key = gather_linear_shared(torch.ones(2), [torch.eye(2), torch.ones(2, 1)], 0.5)
        >>> query, key
        (tensor([1., 1.]), tensor([2.]))
    """
    count = len(weights_t)
    biases = [None] * count if biases is None else biases
    scales = [None] * count if scales is None else scales
    refuse_gradient(x, *weights_t, *biases, *scales)
    level = as_level(threshold, x.device)
    return multiply(x, weights_t, level, biases, scales, x.shape[-1] if x.ndim else 0)


class GatherLinear:
    """`gather_linear_shared` of the same weights for many `x`, by the shortest way.

    A plain float32 or bfloat16 tensor on the CPU goes to the compiled kernel itself: the checks
    and torch's dispatcher take longer than a small layer. Of other dtypes see `multiply_any`.

    Args:
        weights_t: as the arguments of ``torch.ops.sparsact.gather_linear``, known to fit.
        threshold: likewise.
        biases: likewise.
        scales: likewise.
    """

    def __init__(
        self,
        weights_t: Sequence[Tensor],
        threshold: Tensor,
        biases: Sequence[Tensor | None],
        scales: Sequence[Tensor | None],
    ) -> None:
        self._arguments = (weights_t, threshold, biases, scales)
        self._inputs = weights_t[0].shape[0]
        compiled = weights_t[0].device.type == "cpu" and numba_is_installed()
        self._compiled = kernel("gather", "Product")(*self._arguments) if compiled else None

    def __call__(self, x: Tensor, inputs_at_most: int) -> list[Tensor]:
        """What the operation gives, dense beyond so many active inputs."""
        if (
            self._compiled is not None
            and type(x) is Tensor
            and x.dtype in _COMPILED
            and x.is_cpu
            and x.ndim
            and x.shape[-1] == self._inputs
        ):
            found: list[Tensor] = self._compiled(x, inputs_at_most)
            return found
        return multiply_any(x, *self._arguments, inputs_at_most)


def multiply_any(
    x: Tensor,
    weights_t: Sequence[Tensor],
    threshold: Tensor,
    biases: Sequence[Tensor | None],
    scales: Sequence[Tensor | None],
    inputs_at_most: int,
) -> list[Tensor]:
    """`multiply`, for `x` of a floating dtype that has no kernel by way of float32."""
    if x.dtype in _COMPILED or not x.is_floating_point():
        return multiply(x, weights_t, threshold, biases, scales, inputs_at_most)
    outputs = multiply(x.float(), weights_t, threshold, biases, scales, inputs_at_most)
    return [y.to(x.dtype) for y in outputs]


def multiply(
    x: Tensor,
    weights_t: Sequence[Tensor],
    threshold: Tensor,
    biases: Sequence[Tensor | None],
    scales: Sequence[Tensor | None],
    inputs_at_most: int,
) -> list[Tensor]:
    """``torch.ops.sparsact.gather_linear``, which ``torch.compile`` knows too."""
    outputs: list[Tensor] = torch.ops.sparsact.gather_linear.default(
        x, weights_t, threshold, biases, scales, inputs_at_most
    )
    return outputs


def as_level(threshold: float | Tensor, device: torch.device | None = None) -> Tensor:
    """λ as a tensor; a number that is no threshold raises."""
    if isinstance(threshold, Tensor):
        return threshold.detach() if threshold.requires_grad else threshold
    check_level(threshold)
    return torch.tensor(threshold, dtype=torch.float32, device=device)


def refuse_gradient(*tensors: Tensor | None) -> None:
    """Raise where autograd would want a gradient through the operation."""
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
        raise RuntimeError(
            "gather_linear is for inference and has no gradient: call it under torch.no_grad() or "
            "torch.inference_mode(), or detach its inputs"
        )


def _fake(
    x: Tensor,
    weights_t: list[Tensor],
    threshold: Tensor,
    biases: list[Tensor | None],
    scales: list[Tensor | None],
    inputs_at_most: int,
) -> list[Tensor]:
    reference.check(x, weights_t, threshold, biases, scales)
    return [x.new_empty(*x.shape[:-1], weight_t.shape[1]) for weight_t in weights_t]


define(
    "gather_linear",
    "(Tensor x, Tensor[] weights_t, Tensor threshold, Tensor?[] biases, Tensor?[] scales, "
    "SymInt inputs_at_most) -> Tensor[]",
    reference.gather_linear,
    _fake,
    cpu="gather",
)
