"""Operations that skip zeros: compiled for the CPU, in plain torch on every other device."""

from sparsact.kernels import filters as filters
from sparsact.kernels import median as median
from sparsact.kernels._library import backends
from sparsact.kernels.compress import threshold_compress
from sparsact.kernels.csr import Entries, csr_linear
from sparsact.kernels.gather import gather_linear, gather_linear_shared
from sparsact.kernels.linear import sparse_grad_linear
from sparsact.kernels.threshold import linear_threshold
from sparsact.kernels.topk import linear_topk

__all__ = [
    "Entries",
    "backends",
    "csr_linear",
    "gather_linear",
    "gather_linear_shared",
    "linear_threshold",
    "linear_topk",
    "sparse_grad_linear",
    "threshold_compress",
]
