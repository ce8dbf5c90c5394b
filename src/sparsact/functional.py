"""Threshold functions, in the manner of ``torch.nn.functional``.

A λ that is a number is checked. A λ that is a tensor is used as its magnitude |λ|, with the
slope 1 at 0, and never read, so eager, compiled, vmapped and exported code do the same. λ = NaN
gives NaN, λ = inf the limit.

All functions work with ``torch.func.jvp``, ``jacfwd``, ``hessian``, ``linearize`` and ``vmap``, in
eager mode. A tangent is the transposed gradient, also where that is straight-through.
``torch.fx`` records a function or module as one call. ``torch.jit.trace`` records plain operations,
so a trace has no straight-through gradient: it is for deployment.

``torch.compile(torch.func.grad(f))`` gives the same first derivatives. Second derivatives of a
straight-through λ are 0 there, because torch differentiates no backward inside a compiled
transform; entmax with an α other than 1, 1.5 and 2 raises an error for that reason.

Example:
    >>> import torch
    >>> import sparsact.functional as SF
    >>> SF.softshrink(torch.tensor([-2.0, 0.3, 1.0]), 0.5)
    tensor([-1.5000,  0.0000,  0.5000])
"""

from sparsact.thresholds.batch_topk import batch_topk
from sparsact.thresholds.clip import clip
from sparsact.thresholds.entmax import entmax, sparsemax
from sparsact.thresholds.firmshrink import firmshrink
from sparsact.thresholds.garrote import garrote
from sparsact.thresholds.group_softshrink import group_softshrink
from sparsact.thresholds.halfshrink import halfshrink
from sparsact.thresholds.hardshrink import hardshrink
from sparsact.thresholds.jumprelu import jumprelu
from sparsact.thresholds.scad import scad
from sparsact.thresholds.sigmoid_gate import sigmoid_gate
from sparsact.thresholds.softplus import softplus
from sparsact.thresholds.softshrink import softshrink
from sparsact.thresholds.sparse_group_softshrink import sparse_group_softshrink
from sparsact.thresholds.topk import topk

__all__ = [
    "batch_topk",
    "clip",
    "entmax",
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
    "sparsemax",
    "topk",
]
