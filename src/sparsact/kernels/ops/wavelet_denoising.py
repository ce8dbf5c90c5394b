"""Operations of wavelet denoising, forward only: a filter bank along one dim, and a median.

The filter bank reads each sample once and writes each result once. It replaces a chain of shifted
sums where no gradient is needed. The median of the entries above a floor estimates noise.
"""

import torch
from torch import Tensor

from sparsact.kernels.definition import define
from sparsact.kernels.reference import wavelet_denoising_reference as reference


def _fake_mirrored(
    x: Tensor,
    low: list[float],
    high: list[float],
    stride: int,
    dilation: int,
    left: int,
    coefficients: int,
) -> Tensor:
    return x.new_empty(2, x.shape[0], coefficients, x.shape[2])


def _fake_transposed(
    low: Tensor,
    high: Tensor,
    low_taps: list[float],
    high_taps: list[float],
    stride: int,
    dilation: int,
    start: int,
    samples: int,
) -> Tensor:
    return low.new_empty(low.shape[0], samples, low.shape[2])


def _fake_median(x: Tensor, floor: Tensor) -> Tensor:
    return x.new_empty(x.shape[0])


define(
    "filter_mirrored",
    "(Tensor x, float[] low, float[] high, SymInt stride, SymInt dilation, SymInt left, "
    "SymInt coefficients) -> Tensor",
    reference.filter_mirrored,
    _fake_mirrored,
    cpu="filters",
    dtypes=(torch.float32, torch.float64),
)
define(
    "filter_transposed",
    "(Tensor low, Tensor high, float[] low_taps, float[] high_taps, SymInt stride, "
    "SymInt dilation, SymInt start, SymInt samples) -> Tensor",
    reference.filter_transposed,
    _fake_transposed,
    cpu="filters",
    dtypes=(torch.float32, torch.float64),
)
define(
    "median_above",
    "(Tensor x, Tensor floor) -> Tensor",
    reference.median_above,
    _fake_median,
    cpu="median",
    dtypes=(torch.float32, torch.float64),
)
