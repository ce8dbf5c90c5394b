"""Linear layers on thresholded inputs in plain torch, and the check of their operands."""

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.kernels.reference.int4 import outputs, packed_width, widened

_FLOATS = (torch.float32, torch.bfloat16)
_GPU_FLOATS = (*_FLOATS, torch.float16)


def gather_linear(
    x: Tensor,
    weights_t: list[Tensor],
    threshold: Tensor,
    biases: list[Tensor | None],
    scales: list[Tensor | None],
    inputs_at_most: int,
) -> list[Tensor]:
    """``W·(x·1[|x|>λ]) + b`` for each weight, summed in float32."""
    check(x, weights_t, threshold, biases, scales)
    kept = keep_active(x, threshold).float()
    results = []
    for weight_t, bias, scale in zip(weights_t, biases, scales, strict=True):
        y = kept @ widened(weight_t, scale)
        if scale is not None:
            y = y * scale.float()
        if bias is not None:
            y = y + bias.float()
        results.append(y.to(x.dtype))
    return results


def keep_active(x: Tensor, threshold: Tensor) -> Tensor:
    """Set `x` to zero where ``|x| ≤ λ``; λ is compared in float32, NaN is kept."""
    inside = x.abs().float() <= threshold.reshape(-1).float()
    return x.masked_fill(inside, 0)


def check(
    x: Tensor,
    weights_t: list[Tensor],
    threshold: Tensor,
    biases: list[Tensor | None],
    scales: list[Tensor | None],
) -> None:
    """Raise unless the operands are valid: the compiled kernel reads their memory by address."""
    if x.dtype not in floats_on(x):
        raise TypeError(f"x must be {_listed(floats_on(x))}, got {x.dtype}")
    if x.ndim == 0:
        raise InputError("the last dim of x must be the inputs, got a tensor without dims")
    if not weights_t or not len(weights_t) == len(biases) == len(scales):
        raise InputError(
            "at least one weight is needed, and a bias and a scale (or None) for each; got "
            f"{len(weights_t)} weights, {len(biases)} biases, {len(scales)} scales"
        )
    inputs, device = x.shape[-1], x.device
    for weight_t, bias, scale in zip(weights_t, biases, scales, strict=True):
        if weight_t.dtype in (torch.int8, torch.uint8) and scale is None:
            kind = "an int8" if weight_t.dtype == torch.int8 else "a 4-bit"
            raise InputError(f"{kind} weight needs scale=, one factor for each output channel")
        _check_weight(weight_t, inputs, weights_t[0].dtype, floats_on(x))
        if weight_t.device != device:
            raise InputError(f"weight_t is on {weight_t.device}, x on {device}")
        width = outputs(weight_t, scale)
        if scale is not None:
            _check_vector(scale, "scale", (width,), device)
        if bias is not None:
            _check_vector(bias, "bias", (width,), device)
        if weight_t.dtype == torch.uint8 and weight_t.shape[1] != packed_width(width):
            raise InputError(
                f"a 4-bit weight_t of {width} outputs must have rows of {packed_width(width)} "
                f"bytes, got {weight_t.shape[1]}"
            )
    _check_vector(threshold, "threshold", () if threshold.ndim == 0 else (inputs,), device)


def floats_on(x: Tensor) -> tuple[torch.dtype, ...]:
    """The floating dtypes of the kernels on the device of `x`."""
    return _GPU_FLOATS if x.is_cuda else _FLOATS


def _listed(dtypes: tuple[torch.dtype, ...]) -> str:
    names = [str(dtype).removeprefix("torch.") for dtype in dtypes]
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _check_weight(
    weight_t: Tensor, inputs: int, dtype: torch.dtype, floats: tuple[torch.dtype, ...]
) -> None:
    if weight_t.dtype not in (*floats, torch.int8, torch.uint8) or weight_t.dtype != dtype:
        names = ", ".join(str(each).removeprefix("torch.") for each in floats)
        raise TypeError(
            f"weights must be {names}, int8 or packed uint8, all of one dtype; got "
            f"{weight_t.dtype}"
            f"{'' if weight_t.dtype == dtype else f' and {dtype}'}"
        )
    if weight_t.ndim != 2 or weight_t.shape[0] != inputs:
        raise InputError(
            f"weight_t must be of shape ({inputs}, outputs), the transpose of nn.Linear's weight; "
            f"got {tuple(weight_t.shape)}"
        )
    if not weight_t.is_contiguous():
        raise InputError(
            "weight_t must be contiguous: compute weight.t().contiguous() once and keep it"
        )


def _check_vector(vector: Tensor, name: str, shape: tuple[int, ...], device: torch.device) -> None:
    if not vector.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {vector.dtype}")
    if vector.shape != shape:
        raise InputError(f"{name} must be of shape {tuple(shape)}, got {tuple(vector.shape)}")
    if vector.device != device:
        raise InputError(f"{name} is on {vector.device}, x on {device}")
