"""A threshold module of the user's own, about which nothing is known."""

from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.sae.kinds.kind import Kind, KindOptions


class CustomKind(Kind[nn.Module]):
    """Any module that maps (…, d_sae) to the same shape; the dense encoder is used."""

    name = "custom"
    summary = "a threshold module of your own"
    module_type = nn.Module

    @classmethod
    def make_module(cls, options: KindOptions) -> nn.Module:
        """Not possible: the caller passes the module."""
        raise InputError("activation='custom' needs the module: SparseAutoencoder(config, module)")

    def can_set_l0(self) -> bool:
        """Its thresholds are unknown."""
        return False

    def set_l0_(self, pre: Tensor, target: float, bias: Tensor) -> None:
        """Not possible."""
        raise TypeError("the thresholds of a module of your own are unknown")

    def rescale_(self, factor: Tensor) -> bool:
        """Its thresholds are unknown."""
        return False
