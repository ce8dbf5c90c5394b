"""Operations that skip zeros: compiled for the CPU, in plain torch on every other device.

``ops`` defines each operation (schema, shapes, gradient), ``reference`` specifies it in plain
torch, and ``cpu`` has the compiled versions.
"""

from sparsact.kernels.definition import backends
from sparsact.kernels.ops import lasso as lasso
from sparsact.kernels.ops import wavelet_denoising as wavelet_denoising
from sparsact.kernels.ops.csr_linear import Entries, csr_linear
from sparsact.kernels.ops.gather_linear import gather_linear, gather_linear_shared
from sparsact.kernels.ops.linear_threshold import linear_threshold
from sparsact.kernels.ops.linear_topk import linear_topk
from sparsact.kernels.ops.sparse_grad_linear import sparse_grad_linear
from sparsact.kernels.ops.threshold_compress import threshold_compress

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
