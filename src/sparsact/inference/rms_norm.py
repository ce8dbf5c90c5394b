"""RMS normalisation between the layers of a sparse model, in one call instead of six."""

import copy
import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparsact.kernels.cpu import library
from sparsact.kernels.definition import kernel

_ROWS_AT_MOST = 64  # with more rows, torch's threads save more time than a single call
_EPSILONS = ("eps", "variance_epsilon")
_DTYPES = (torch.float32, torch.bfloat16)


class RMSNorm(nn.RMSNorm):
    """``torch.nn.RMSNorm`` for inference, in one compiled call for a few rows on a CPU.

    Shape:
        (..., d) to (..., d), in the wider dtype of input and weight; sums are float32.
    """

    def forward(self, x: Tensor) -> Tensor:
        """The normalised rows."""
        weight: Any = self._parameters["weight"]
        if not torch.compiler.is_compiling() and _is_plain(x, weight) and library.is_built():
            y: Tensor = kernel("norm", "rms_norm")(x, weight, self.eps)
            return y
        dtype = torch.promote_types(x.dtype, weight.dtype)
        return F.rms_norm(x.to(dtype), self.normalized_shape, weight.to(dtype), self.eps)


def _is_plain(x: Tensor, weight: Tensor) -> bool:
    needs_gradient = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    return (
        type(x) is Tensor
        and x.is_cpu
        and x.dtype in _DTYPES
        and x.dtype == weight.dtype
        and x.shape[-1:] == weight.shape
        and x.numel() <= _ROWS_AT_MOST * len(weight)
        and not needs_gradient
    )


def as_rms_norm(norm: nn.Module) -> RMSNorm | None:
    """An equal `RMSNorm`, if a module of any library is a root mean square norm; else None.

    Libraries have their own classes, and some with similar names multiply by 1 + weight. So the
    outputs are compared.
    """
    eps = epsilon(norm)
    weight: Any = norm._parameters.get("weight")
    if eps is None or not multiplies_by(weight, norm, eps):
        return None
    equal = RMSNorm(len(weight), eps=eps, device="meta")
    equal.weight = nn.Parameter(weight.detach(), requires_grad=False)
    return equal


def epsilon(norm: nn.Module) -> float | None:
    """The ε of a module that looks like a root mean square norm; None for any other."""
    eps = next((e for e in (getattr(norm, name, None) for name in _EPSILONS) if e), None)
    parameters = dict(norm.named_parameters())
    if "RMSNorm" not in type(norm).__name__ or eps is None or list(parameters) != ["weight"]:
        return None
    if parameters["weight"].ndim != 1 or len(inspect.signature(norm.forward).parameters) != 1:
        return None
    return float(eps)


def multiplies_by(weight: Tensor, norm: nn.Module, eps: float) -> bool:
    """Whether a norm is ``x / √(mean(x²) + ε) · weight`` with this weight."""
    # the second row is so small that ε matters
    x = torch.linspace(-1, 3, 2 * len(weight), device=weight.device).view(2, -1)
    x = x * torch.tensor([[1.0], [eps**0.5]], device=weight.device)
    with torch.no_grad():
        output = copy.deepcopy(norm).float()(x)
        expected = F.rms_norm(x, weight.shape, weight.float(), eps)
    return torch.allclose(output, expected, atol=1e-6)
