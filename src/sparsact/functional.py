"""Threshold functions, as ``torch.nn.functional`` would hold them.

One composition is wrong, without an error: ``torch.compile(torch.func.grad(f))`` in torch 2.13
differentiates the forward of any ``torch.autograd.Function`` and leaves out its own backward, so
that a straight-through λ gets 0. ``torch.func.grad(torch.compile(f))``, ``backward()`` of a
compiled function and eager ``torch.func.grad`` are right.

Example:
    >>> import torch
    >>> import sparsact.functional as SF
    >>> SF.softshrink(torch.tensor([-2.0, 0.3, 1.0]), 0.5)
    tensor([-1.5000,  0.0000,  0.5000])
"""

from sparsact._thresholds.clip import clip
from sparsact._thresholds.curved import garrote, halfshrink
from sparsact._thresholds.gate import jumprelu, sigmoid_gate
from sparsact._thresholds.group import group_softshrink, sparse_group_softshrink
from sparsact._thresholds.piecewise import firmshrink, scad
from sparsact._thresholds.select import batch_topk, topk
from sparsact._thresholds.shrink import hardshrink, softshrink
from sparsact._thresholds.smooth import softplus

__all__ = [
    "batch_topk",
    "clip",
    "firmshrink",
    "garrote",
    "group_softshrink",
    "halfshrink",
    "hardshrink",
    "jumprelu",
    "scad",
    "sigmoid_gate",
    "softplus",
    "softshrink",
    "sparse_group_softshrink",
    "topk",
]
