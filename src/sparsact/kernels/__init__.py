"""Operations that skip zeros: compiled for the CPU, in plain torch on every other device."""

from sparsact.kernels._library import backends
from sparsact.kernels.compress import threshold_compress
from sparsact.kernels.gather import gather_linear, gather_linear_shared

__all__ = ["backends", "gather_linear", "gather_linear_shared", "threshold_compress"]
