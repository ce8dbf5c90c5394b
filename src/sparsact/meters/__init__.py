"""Streaming statistics of the activations of a model: density, dead units, histograms."""

from sparsact.meters.sparsity_meter import LayerStats, SparsityMeter
from sparsact.meters.streaming_histogram import Histogram

__all__ = ["Histogram", "LayerStats", "SparsityMeter"]
