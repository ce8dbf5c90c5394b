"""Where activations come from: arrays, files, and a layer of a model."""

from sparsact.sae.activations.harvest import Tokens, harvest, pack_tokens
from sparsact.sae.activations.rows import Rows, open_rows

__all__ = ["Rows", "Tokens", "harvest", "open_rows", "pack_tokens"]
