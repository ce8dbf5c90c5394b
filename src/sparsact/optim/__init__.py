"""Proximal steps around any torch optimizer, which set weights to exactly zero."""

from sparsact.optim.proximal import Proximal

__all__ = ["Proximal"]
