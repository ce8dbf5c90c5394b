"""Where activations come from: arrays, files, and a layer of a model."""

from sparsact.sae.activations.harvest import harvest
from sparsact.sae.activations.rows import Rows, open_rows

__all__ = ["Rows", "harvest", "open_rows"]
