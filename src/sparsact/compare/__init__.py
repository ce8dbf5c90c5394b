"""Train the same network with each activation on the same data, and compare."""

from sparsact.compare.compare_config import CompareConfig
from sparsact.compare.comparison import Comparison
from sparsact.compare.comparison_result import ComparisonResult
from sparsact.compare.engine import Outcome
from sparsact.compare.model_comparison import compare_activations
from sparsact.compare.saved_model import load_model
from sparsact.compare.task_model import load_task_model

__all__ = [
    "CompareConfig",
    "Comparison",
    "ComparisonResult",
    "Outcome",
    "compare_activations",
    "load_model",
    "load_task_model",
]
