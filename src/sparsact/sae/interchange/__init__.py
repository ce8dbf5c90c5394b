"""Autoencoders in the files of other libraries: read by `load`, written for SAELens and the hub."""

from sparsact.sae.interchange.hub_upload import push_to_hub
from sparsact.sae.interchange.loading import load
from sparsact.sae.interchange.saelens_export import save_saelens
from sparsact.sae.interchange.saelens_import import load_saelens
from sparsact.sae.interchange.sparsify_import import load_sparsify

__all__ = ["load", "load_saelens", "load_sparsify", "push_to_hub", "save_saelens"]
