"""The dense product that `gather_linear` uses for many rows or many active inputs."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sparsact.kernels.cpu.bfloat16_units import multiplies_bfloat16
from sparsact.kernels.reference.gather_reference import keep_active
from sparsact.kernels.reference.int4 import outputs as outputs_of
from sparsact.kernels.reference.int4 import widened

_BLOCK = 1 << 22  # weights that are converted to float32 at a time: they fit the last cache


def dense(
    x: Tensor,
    weights_t: Sequence[Tensor],
    threshold: Tensor,
    biases: Sequence[Tensor | None],
    scales: Sequence[Tensor | None],
    *,
    bfloat16_units: bool | None = None,
    block: int = _BLOCK,
) -> list[Tensor]:
    """Compute `gather_linear` by dense products.

    Args:
        x: as for `gather_linear`; so are the next four arguments.
        weights_t: (in, out) each.
        threshold: λ.
        biases: (out,) each.
        scales: (out,) each.
        bfloat16_units: whether the CPU multiplies in bfloat16; None finds out.
        block: how many weights are converted to float32 at a time.
    """
    has_units = multiplies_bfloat16() if bfloat16_units is None else bfloat16_units
    kept = keep_active(x, threshold).reshape(x.shape[:-1].numel(), x.shape[-1])
    outputs = []
    for weight_t, bias, scale in zip(weights_t, biases, scales, strict=True):
        # without units torch multiplies by a bfloat16 weight 100 times slower than in float32
        is_slow = weight_t.dtype == torch.bfloat16 and not has_units
        if kept.dtype == weight_t.dtype and not is_slow:
            y = kept @ weight_t
        else:
            y = _widened(kept, weight_t, scale, block)
        y = y if scale is None else y * scale
        y = y if bias is None else y + bias
        outputs.append(y.to(x.dtype).view(*x.shape[:-1], y.shape[1]))
    return outputs


def _widened(x: Tensor, weight_t: Tensor, scale: Tensor | None, block: int) -> Tensor:
    """``x @ weight_t`` in float32, without a float32 copy of the entire weight."""
    width = outputs_of(weight_t, scale)
    y = x.new_zeros(len(x), width, dtype=torch.float32)
    step = max(1, block // max(1, width))
    for start in range(0, len(weight_t), step):
        stop = start + step
        y.addmm_(x[:, start:stop].float(), widened(weight_t[start:stop], scale))
    return y
