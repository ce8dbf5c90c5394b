"""Sparse activations times a dense weight: the decoder of a sparse autoencoder.

Three operations, each a gradient of the others: the product, the sampled product (sddmm) for the
values, and the transposed product for the weight.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.kernels.definition import define
from sparsact.kernels.ops.operand_checks import check_dense
from sparsact.kernels.reference import csr_reference as reference


class Entries(NamedTuple):
    """Compressed sparse rows as three tensors; the cost of a gradient grows with the entries.

    The gradient of a ``torch.sparse_csr`` tensor goes through a dense matrix instead.

    Attributes:
        values: (entries,).
        offsets: (rows + 1,), the position of each row's first entry.
        columns: (entries,).
    """

    values: Tensor
    offsets: Tensor
    columns: Tensor


Activations = Tensor | tuple[Tensor, Tensor] | Entries
_Grads = tuple[Tensor | None, ...]


def csr_linear(activations: Activations, weight_t: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply sparse activations z by a dense weight: y = z @ weight_t + bias.

    The work, forward and backward, is proportional to the number of entries.

    Args:
        activations: a ``torch.sparse_csr`` tensor (rows, features), the `Entries` returned by
            `linear_threshold`, or a pair of values and indices, both (rows, k), as returned by
            `linear_topk` and ``torch.topk``. Indices are int32 or int64, in any order; entries
            with the same index are added.
        weight_t: (features, out), of the dtype of the values: the transposed weight of a linear
            layer. A non-contiguous one is copied.
        bias: (out,), or None.

    Returns:
        (rows, out), of the dtype of `weight_t`. Sums are float32 (float64 for float64). The bits
        do not depend on the number of threads. On a GPU with Triton, a wrong index or offset makes
        NaN instead of an error, which would have to wait for the GPU.

    Gradient:
        exact for the values, the weight and the bias, of any order. Every explicit entry receives
        a gradient, even a zero; entries outside the structure receive none. The bits do not
        depend on the number of threads.

    Raises:
        TypeError: a dtype is not floating point, dtypes differ, or indices are not integers.
        IndexError: an index is outside 0 … features − 1.
        ValueError: wrong layouts or shapes, several devices, or row offsets that do not ascend.

    Example:
        >>> values, indices = torch.tensor([[2.0, 1.0]]), torch.tensor([[2, 0]])
        >>> csr_linear((values, indices), torch.eye(3))
        tensor([[1., 0., 2.]])
    """
    values, offsets, indices = structure(activations)
    check_dense(weight_t, "weight_t", values, None)
    if isinstance(activations, Tensor) and activations.shape[1] != weight_t.shape[0]:
        raise InputError(
            f"activations have {activations.shape[1]} features, weight_t "
            f"{weight_t.shape[0]} rows: they must be equal"
        )
    if bias is not None:
        check_dense(bias, "bias", values, (weight_t.shape[1],))
    result: Tensor = torch.ops.sparsact.csr_linear(values, offsets, indices, weight_t, bias)
    return result


def structure(activations: Activations) -> tuple[Tensor, Tensor, Tensor]:
    """Return values, row offsets and column indices, each one-dimensional."""
    if isinstance(activations, Entries):
        return _checked_entries(activations)
    if isinstance(activations, Tensor):
        if activations.layout != torch.sparse_csr or activations.ndim != 2:
            raise InputError(
                "activations must be a sparse CSR matrix or a pair (values, indices), got a "
                f"tensor of layout {activations.layout} and shape {tuple(activations.shape)}"
            )
        if activations.values().ndim != 1:
            raise InputError("activations must not have dense dims")
        if not activations.is_floating_point():
            raise TypeError(f"activations must be floating point, got {activations.dtype}")
        return activations.values(), activations.crow_indices(), activations.col_indices()
    if len(activations) != 2:
        raise InputError(
            "activations must be a CSR tensor, Entries or a pair (values, indices), got "
            f"{len(activations)} parts"
        )
    values, indices = activations
    if not values.is_floating_point():
        raise TypeError(f"values must be floating point, got {values.dtype}")
    if values.ndim != 2 or values.shape != indices.shape:
        raise InputError(
            "values and indices must both be of shape (rows, k), got "
            f"{tuple(values.shape)} and {tuple(indices.shape)}"
        )
    _check_indices(indices, values)
    return values.flatten(), reference.row_offsets(indices), indices.flatten()


def _checked_entries(entries: Entries) -> Entries:
    values, offsets, columns = entries
    if not values.is_floating_point():
        raise TypeError(f"values must be floating point, got {values.dtype}")
    if not values.ndim == offsets.ndim == columns.ndim == 1 or offsets.shape[0] == 0:
        raise InputError(
            "values, offsets and columns must have one dim, and offsets at least one entry; got "
            f"the shapes {tuple(values.shape)}, {tuple(offsets.shape)}, {tuple(columns.shape)}"
        )
    for indices in (offsets, columns):
        _check_indices(indices, values)
    return entries


def _check_indices(indices: Tensor, values: Tensor) -> None:
    if indices.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"indices must be int32 or int64, got {indices.dtype}")
    if indices.device != values.device:
        raise InputError(f"values are on {values.device}, indices on {indices.device}")


def summed_by_feature(values: Tensor, columns: Tensor, features: int) -> Tensor:
    """Sum the entries of each column: the gradient of a bias, (features,)."""
    wide = values.to(reference.summed_in(values))
    return wide.new_zeros(features).index_add(0, columns, wide).to(values.dtype)


def _fake_linear(
    values: Tensor, offsets: Tensor, indices: Tensor, weight_t: Tensor, bias: Tensor | None
) -> Tensor:
    return weight_t.new_empty(offsets.shape[0] - 1, weight_t.shape[1])


def _fake_sddmm(left: Tensor, right: Tensor, offsets: Tensor, indices: Tensor) -> Tensor:
    return left.new_empty(indices.shape[0])


def _fake_weight_grad(
    values: Tensor, offsets: Tensor, indices: Tensor, dense: Tensor, features: int
) -> Tensor:
    return dense.new_empty(features, dense.shape[1])


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:4])


def _linear_backward(ctx: Any, grad: Tensor) -> _Grads:
    values, offsets, indices, weight_t = ctx.saved_tensors
    needs_values, _, _, needs_weight, needs_bias = ctx.needs_input_grad
    ops = torch.ops.sparsact
    return (
        ops.sddmm(grad, weight_t, offsets, indices) if needs_values else None,
        None,
        None,
        ops.csr_weight_grad(values, offsets, indices, grad, weight_t.shape[0])
        if needs_weight
        else None,
        grad.sum(0) if needs_bias else None,
    )


def _sddmm_backward(ctx: Any, grad: Tensor) -> _Grads:
    left, right, offsets, indices = ctx.saved_tensors
    needs_left, needs_right, _, _ = ctx.needs_input_grad
    ops = torch.ops.sparsact
    return (
        ops.csr_linear(grad, offsets, indices, right, None) if needs_left else None,
        ops.csr_weight_grad(grad, offsets, indices, left, right.shape[0]) if needs_right else None,
        None,
        None,
    )


def _weight_grad_backward(ctx: Any, grad: Tensor) -> _Grads:
    values, offsets, indices, dense = ctx.saved_tensors
    needs_values, _, _, needs_dense, _ = ctx.needs_input_grad
    ops = torch.ops.sparsact
    return (
        ops.sddmm(dense, grad, offsets, indices) if needs_values else None,
        None,
        None,
        ops.csr_linear(values, offsets, indices, grad, None) if needs_dense else None,
        None,
    )


define(
    "csr_linear",
    "(Tensor values, Tensor offsets, Tensor indices, Tensor weight_t, Tensor? bias) -> Tensor",
    reference.csr_linear,
    _fake_linear,
    cpu="csr",
    gpu="csr",
)
define(
    "sddmm",
    "(Tensor left, Tensor right, Tensor offsets, Tensor indices) -> Tensor",
    reference.sddmm,
    _fake_sddmm,
    cpu="csr",
    gpu="csr",
)
define(
    "csr_weight_grad",
    "(Tensor values, Tensor offsets, Tensor indices, Tensor dense, SymInt features) -> Tensor",
    reference.csr_weight_grad,
    _fake_weight_grad,
    cpu="csr",
    gpu="csr",
)
for _name, _backward in (
    ("csr_linear", _linear_backward),
    ("sddmm", _sddmm_backward),
    ("csr_weight_grad", _weight_grad_backward),
):
    torch.library.register_autograd(f"sparsact::{_name}", _backward, setup_context=_setup)
