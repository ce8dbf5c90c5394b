"""Train the same network with each activation on the same data, and compare."""

from sparsact.compare.compare_config import CompareConfig
from sparsact.compare.comparison import Comparison
from sparsact.compare.engine import Outcome
from sparsact.compare.saved_model import load_model

__all__ = ["CompareConfig", "Comparison", "Outcome", "load_model"]
