"""Language models on the command line: a plan from text, and what it costs and saves."""

from sparsact.llm.bench import Bench, Benched
from sparsact.llm.calibrating import Calibrated, make_plan
from sparsact.llm.config import BenchConfig, CalibrateConfig

__all__ = ["Bench", "BenchConfig", "Benched", "CalibrateConfig", "Calibrated", "make_plan"]
