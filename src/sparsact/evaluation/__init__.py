"""What a sparse language model costs and saves: perplexity, decoding time, weights read."""

from sparsact.evaluation.bench_config import BenchConfig
from sparsact.evaluation.bench_run import Bench, BenchResult
from sparsact.evaluation.perplexity import perplexity, perplexity_ratio, window_losses

__all__ = [
    "Bench",
    "BenchConfig",
    "BenchResult",
    "perplexity",
    "perplexity_ratio",
    "window_losses",
]
