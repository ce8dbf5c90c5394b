"""Selecting modules, watching their tensors through hooks, and replacing modules."""

from sparsact.hooks.early_stop import stop_after, stop_before
from sparsact.hooks.selection import (
    Selector,
    assign_modules,
    assign_parameters,
    select_modules,
)
from sparsact.hooks.swapping import swap
from sparsact.hooks.taps import Removable, Site, TapCallback, Taps, around_forward, check_hookable
from sparsact.hooks.tensors import first_tensor, in_backward, shared_parameters, version_of

__all__ = [
    "Removable",
    "Selector",
    "Site",
    "TapCallback",
    "Taps",
    "around_forward",
    "assign_modules",
    "assign_parameters",
    "check_hookable",
    "first_tensor",
    "in_backward",
    "select_modules",
    "shared_parameters",
    "stop_after",
    "stop_before",
    "swap",
    "version_of",
]
