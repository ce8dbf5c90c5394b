"""How the kernels in this folder are compiled."""

import os
from typing import Any

import numba
import numpy as np

if "NUMBA_THREADING_LAYER" not in os.environ and "NUMBA_THREADING_LAYER_PRIORITY" not in os.environ:
    # torch's OpenMP workers spin after a parallel region, and other pools wait for the core
    _config: Any = numba.config
    _config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]

Array = np.ndarray[Any, Any]

part = numba.njit(nogil=True, cache=True, error_model="numpy")
summing_part = numba.njit(
    nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract"}
)
driver = numba.njit(nogil=True, cache=True, error_model="numpy", parallel=True)
