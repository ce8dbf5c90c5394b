"""One controller that makes thresholds, penalties and gates reach a density."""

from sparsact.control.coefficient_controller import CoefficientController
from sparsact.control.target_density import TargetDensity

__all__ = ["CoefficientController", "TargetDensity"]
