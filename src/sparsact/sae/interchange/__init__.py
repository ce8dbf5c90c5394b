"""Autoencoders in the files of other libraries: SAELens (read and written), sparsify (read)."""

from sparsact.sae.interchange.saelens_export import save_saelens
from sparsact.sae.interchange.saelens_import import load_saelens
from sparsact.sae.interchange.sparsify_import import load_sparsify

__all__ = ["load_saelens", "load_sparsify", "save_saelens"]
