"""Training the same network with each activation, and comparing."""

from sparsact.compare.config import CompareConfig
from sparsact.compare.model import load_model
from sparsact.compare.run import Comparison, Outcome

__all__ = ["CompareConfig", "Comparison", "Outcome", "load_model"]
