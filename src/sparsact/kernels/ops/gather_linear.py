"""Linear layers that skip the weights of inactive inputs; for inference."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sparsact.kernels.cpu import library
from sparsact.kernels.definition import define, kernel
from sparsact.kernels.ops.operand_checks import check_level
from sparsact.kernels.reference import gather_reference as reference
from sparsact.kernels.reference.int4 import outputs

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

    One row of `x` reads the weights of its active inputs. Several rows read the weights of all
    inputs that are active in any row; each row is still thresholded separately. Many rows use a
    dense product.

    Args:
        x: (..., in), float32 or bfloat16, on a GPU also float16. A non-contiguous one is copied.
        weight_t: (in, out), a dtype of `x` or int8: the transpose of the weight of an
            ``nn.Linear``, contiguous, so that the weights of one input are one run of memory. Its
            entries should be finite: a skipped inf or NaN has no effect. Weights of 4 bits are
            uint8, (in, bytes), packed as `sparsact.kernels.reference.int4` says.
        threshold: λ ≥ 0, a number or a tensor of shape () or (in,), one for each input channel. The
            values of a tensor are not checked: reading them would take as long as a small layer. λ
            is compared in float32, not rounded to the dtype of `x`. A NaN in `x` is active.
        bias: (out,).
        scale: (out,), the factor of each output channel of an int8 or 4-bit weight.

    Returns:
        (..., out) in the dtype of `x`; sums are float32.

    Gradient:
        none: the operation is for inference.

    Raises:
        RuntimeError: an operand requires a gradient.
        TypeError: an unsupported dtype.
        ValueError: wrong shapes or devices, a weight that is not contiguous, an int8 or 4-bit
            weight without a scale, or a number λ that is negative or not finite.

    Example:
        >>> x = torch.tensor([0.1, -2.0, 3.0])
        >>> weight_t = torch.tensor([[1.0, 1.0], [2.0, 0.0], [0.0, 1.0]])
        >>> gather_linear(x, weight_t, 0.5)
        tensor([-4.,  3.])

    Source:
        Liu et al. 2024, "Training-free activation sparsity in large language models" (TEAL) skips
        inputs below a magnitude. The union over a batch and the CPU kernel are ours.
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
    """Apply `gather_linear` for several weights to the same `x`, which is compacted once.

    Examples are the query, key and value projections of an attention layer, and the gate and up
    projections of a gated MLP.

    Args:
        x: (..., in), as for `gather_linear`.
        weights_t: each (in, out), where out may differ; all of one dtype.
        threshold: λ, as for `gather_linear`.
        biases: a bias or None for each weight; by default no weight has one.
        scales: a scale or None for each weight, as for `gather_linear`.

    Returns:
        the result of `gather_linear` for each weight.

    Gradient:
        none: the operation is for inference.

    Raises:
        RuntimeError: an operand requires a gradient.
        TypeError: an unsupported dtype, or weights of several dtypes.
        ValueError: as for `gather_linear`, or another number of biases or scales than weights.

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
    """`gather_linear_shared` with the same weights for many `x`, with the least overhead.

    A plain float32 or bfloat16 tensor on the CPU goes directly to the compiled kernel: the checks
    and torch's dispatcher take longer than a small layer. For other dtypes see `multiply_any`.

    The arguments are those of ``torch.ops.sparsact.gather_linear``, and must be valid.
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
        compiled = weights_t[0].device.type == "cpu" and library.is_built()
        self._compiled = kernel("gather", "Product")(*self._arguments) if compiled else None

    def __call__(self, x: Tensor, inputs_at_most: int) -> list[Tensor]:
        """Compute the outputs; densely, if more than `inputs_at_most` inputs are active."""
        if (
            self._compiled is not None
            and type(x) is Tensor
            and x.dtype in _COMPILED
            and x.is_cpu
            and x.ndim
            and x.shape[-1] == self._inputs
        ):
            outputs: list[Tensor] = self._compiled(x, inputs_at_most)
            return outputs
        return multiply_any(x, *self._arguments, inputs_at_most)


def multiply_any(
    x: Tensor,
    weights_t: Sequence[Tensor],
    threshold: Tensor,
    biases: Sequence[Tensor | None],
    scales: Sequence[Tensor | None],
    inputs_at_most: int,
) -> list[Tensor]:
    """`multiply` for any floating dtype: one without a kernel is computed in float32."""
    if x.dtype in reference.floats_on(x) or not x.is_floating_point():
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
    """Call ``torch.ops.sparsact.gather_linear``, which ``torch.compile`` supports."""
    outputs: list[Tensor] = torch.ops.sparsact.gather_linear.default(
        x, weights_t, threshold, biases, scales, inputs_at_most
    )
    return outputs


def as_level(threshold: float | Tensor, device: torch.device | None = None) -> Tensor:
    """Return λ as a tensor; raise for a number that cannot be a threshold."""
    if isinstance(threshold, Tensor):
        return threshold.detach() if threshold.requires_grad else threshold
    check_level(threshold)
    return torch.tensor(threshold, dtype=torch.float32, device=device)


def refuse_gradient(*tensors: Tensor | None) -> None:
    """Raise if autograd would need a gradient through the operation."""
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
        raise RuntimeError(
            "gather_linear is for inference and has no gradient: call it inside torch.no_grad() or "
            "torch.inference_mode(), or detach its operands"
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
    return [
        x.new_empty(*x.shape[:-1], outputs(weight_t, scale))
        for weight_t, scale in zip(weights_t, scales, strict=True)
    ]


define(
    "gather_linear",
    "(Tensor x, Tensor[] weights_t, Tensor threshold, Tensor?[] biases, Tensor?[] scales, "
    "SymInt inputs_at_most) -> Tensor[]",
    reference.gather_linear,
    _fake,
    cpu="gather",
    gpu="gather",
)
