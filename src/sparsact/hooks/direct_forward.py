"""Forwards that run without their hooks, called as ``module.forward(x)``."""

import sys
from collections.abc import Collection

import torch
from torch import nn


def direct_forward(modules: Collection[nn.Module]) -> nn.Module | None:
    """Return one of `modules` in whose forward the caller runs; None while compiling.

    For modules that did not run their hooks. The search walks up the stack.
    """
    if torch.compiler.is_compiling():
        return None
    frame = sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_name == "forward" and frame.f_code.co_argcount:
            module = frame.f_locals.get(frame.f_code.co_varnames[0])
            if isinstance(module, nn.Module) and module in modules:
                return module
    return None
