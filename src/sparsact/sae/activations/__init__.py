"""Where activations come from: arrays, files, and shards on disk."""

from sparsact.sae.activations.rows import Rows, open_rows

__all__ = ["Rows", "open_rows"]
