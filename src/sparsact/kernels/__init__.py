"""Operations that skip zeros: compiled for the CPU, in plain torch on every other device."""

from sparsact.kernels._library import backends
from sparsact.kernels.compress import threshold_compress

__all__ = ["backends", "threshold_compress"]
