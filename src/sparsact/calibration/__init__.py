"""Thresholds for a chosen sparsity, from data: calibrate, then compensate, then tune."""

from sparsact.calibration.calibrate import calibrate
from sparsact.calibration.compensate import compensate
from sparsact.calibration.plan import ThresholdPlan
from sparsact.calibration.sites import InputSite, find_sites
from sparsact.calibration.tune import tune

__all__ = ["InputSite", "ThresholdPlan", "calibrate", "compensate", "find_sites", "tune"]
