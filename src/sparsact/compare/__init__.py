"""Train the same network with each activation on the same data, and compare."""

from sparsact.compare.compare_config import CompareConfig
from sparsact.compare.comparison import Comparison
from sparsact.compare.model_comparison import compare_activations
from sparsact.compare.problems.task_model import load_task_model
from sparsact.compare.results.comparison_result import ComparisonResult
from sparsact.compare.saved_model import load_model
from sparsact.compare.training.engine import Outcome

__all__ = [
    "CompareConfig",
    "Comparison",
    "ComparisonResult",
    "Outcome",
    "compare_activations",
    "load_model",
    "load_task_model",
]
