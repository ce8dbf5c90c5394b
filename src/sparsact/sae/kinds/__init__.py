"""The kinds of autoencoder: one file per kind, all listed here."""

from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from sparsact.sae.kinds.batch_topk_kind import BatchTopKKind
from sparsact.sae.kinds.custom_kind import CustomKind
from sparsact.sae.kinds.gated_kind import GatedKind, GatedReLU
from sparsact.sae.kinds.jumprelu_kind import JumpReLUKind
from sparsact.sae.kinds.kind import Kind, KindOptions, SparseEncoding
from sparsact.sae.kinds.relu_kind import ReLUKind
from sparsact.sae.kinds.softshrink_kind import SoftshrinkKind
from sparsact.sae.kinds.sparsity_term import SparsityTerm
from sparsact.sae.kinds.topk_kind import TopKKind

KINDS: dict[str, type[Kind[Any]]] = {
    kind.name: kind
    for kind in (
        ReLUKind,
        TopKKind,
        BatchTopKKind,
        JumpReLUKind,
        SoftshrinkKind,
        GatedKind,
        CustomKind,  # stays last: every module is an instance of its module type
    )
}
"""Name → kind. Names, choices, help texts and dispatch come from here."""

PRESETS = tuple(name for name in KINDS if name != CustomKind.name)
"""The kinds that bring their own threshold module."""

if TYPE_CHECKING:  # a type checker cannot read the choices from the table
    KindName = str
    PresetName = str
else:
    KindName = Literal[tuple(KINDS)]
    PresetName = Literal[PRESETS]

__all__ = [
    "KINDS",
    "PRESETS",
    "CustomKind",
    "GatedReLU",
    "Kind",
    "KindName",
    "KindOptions",
    "PresetName",
    "SparseEncoding",
    "SparsityTerm",
    "kind_of",
    "kinds_help",
    "sparsity_term",
]


def kind_of(activation: nn.Module) -> Kind[Any]:
    """The kind of a threshold module, bound to it."""
    kind = next(kind for kind in KINDS.values() if isinstance(activation, kind.module_type))
    return kind(activation)


def sparsity_term(name: str, activation: nn.Module) -> SparsityTerm | None:
    """The penalty of an autoencoder, or None if there is none.

    Args:
        name: the value of ``SAEConfig.activation``.
        activation: the threshold module.
    """
    kind = kind_of(activation)
    if name == CustomKind.name and not kind.penalizes_custom:
        return None
    return kind.penalty()


def kinds_help() -> str:
    """What is active in each preset, for a help text."""
    return "; ".join(f"{name}: {KINDS[name].summary}" for name in PRESETS)
