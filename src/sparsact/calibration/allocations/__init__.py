"""The allocations that ``calibrate`` knows: a new one is a file here and an entry below."""

from sparsact.calibration.allocations.allocation import Allocation
from sparsact.calibration.allocations.block_allocation import BLOCK
from sparsact.calibration.allocations.global_allocation import GLOBAL
from sparsact.calibration.allocations.uniform_allocation import UNIFORM

ALLOCATIONS = {allocation.name: allocation for allocation in (GLOBAL, BLOCK, UNIFORM)}

__all__ = ["ALLOCATIONS", "BLOCK", "GLOBAL", "UNIFORM", "Allocation"]
