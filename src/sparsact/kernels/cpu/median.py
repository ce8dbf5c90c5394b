"""The median of the entries above a floor, by counting."""

from torch import Tensor

from sparsact.kernels.cpu.library import ADDRESS, INTEGER, REALS, function
from sparsact.kernels.cpu.threads import threads

_median = function("median_above", *(INTEGER,) * 4, *(ADDRESS, ADDRESS, ADDRESS))


def median_above(x: Tensor, floor: Tensor) -> Tensor:
    """Return the median of each row's ``|x|`` above `floor`; NaN if there is no entry."""
    x, floor = x.contiguous(), floor.to(x.dtype).contiguous()
    rows, size = x.shape
    out = x.new_empty(rows)
    addresses = (x.data_ptr(), floor.data_ptr(), out.data_ptr())
    _median(threads(rows), rows, size, REALS[x.dtype], *addresses)
    return out
