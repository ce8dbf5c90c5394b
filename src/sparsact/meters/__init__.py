"""Streaming statistics of the activations of a model."""

from sparsact.meters.histogram import Histogram
from sparsact.meters.sparsity import LayerStats, SparsityMeter

__all__ = ["Histogram", "LayerStats", "SparsityMeter"]
