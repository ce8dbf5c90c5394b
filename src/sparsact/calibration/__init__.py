"""Thresholds for a chosen sparsity: scores, allocation, plans."""

from sparsact.calibration.calibrate import calibrate
from sparsact.calibration.plan import ThresholdPlan
from sparsact.calibration.sites import InputSite, find_sites

__all__ = ["InputSite", "ThresholdPlan", "calibrate", "find_sites"]
