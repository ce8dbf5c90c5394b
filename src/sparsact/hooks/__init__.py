"""Selecting modules and calls, watching their tensors through hooks, and replacing them."""

from sparsact.hooks.activations import activations
from sparsact.hooks.call_assignment import assign_calls
from sparsact.hooks.call_patterns import CallPattern, CallSelector, call_patterns
from sparsact.hooks.call_sites import CallSite, CallSites
from sparsact.hooks.call_taps import CallTaps
from sparsact.hooks.channel_dims import guessed_channel_dim
from sparsact.hooks.early_stop import stop_after, stop_before
from sparsact.hooks.missing_calls import explain_missing, replaced_modules, unseen
from sparsact.hooks.selection import Selector, assign_parameters, select_modules
from sparsact.hooks.swapping import swap
from sparsact.hooks.taps import Removable, Site, TapCallback, Taps, around_forward, check_hookable
from sparsact.hooks.tensors import (
    first_tensor,
    in_backward,
    is_made_into_a_program,
    outside_of_vmap,
    shared_parameters,
    version_of,
)

__all__ = [
    "CallPattern",
    "CallSelector",
    "CallSite",
    "CallSites",
    "CallTaps",
    "Removable",
    "Selector",
    "Site",
    "TapCallback",
    "Taps",
    "activations",
    "around_forward",
    "assign_calls",
    "assign_parameters",
    "call_patterns",
    "check_hookable",
    "explain_missing",
    "first_tensor",
    "guessed_channel_dim",
    "in_backward",
    "is_made_into_a_program",
    "outside_of_vmap",
    "replaced_modules",
    "select_modules",
    "shared_parameters",
    "stop_after",
    "stop_before",
    "swap",
    "unseen",
    "version_of",
]
