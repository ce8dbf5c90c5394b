"""The penalty of a kind: what it counts, in dense and in sparse form."""

from torch import Tensor

from sparsact.kernels import Entries
from sparsact.penalties import L1, L2, ElasticNet, LogSum, Penalty


class SparsityTerm:
    """A penalty on the latents.

    Args:
        penalty: with coefficient 1. Training multiplies it by its own coefficient, which can move.
    """

    def __init__(self, penalty: Penalty) -> None:
        self.penalty = penalty

    def __call__(self, pre: Tensor | Entries, latents: Tensor | Entries) -> Tensor:
        """The penalty summed over a batch: a scalar.

        Args:
            pre: pre-activations (batch, d_sae). If :attr:`counts_entries`, they can be the
                entries that pass the threshold or that it learns from.
            latents: the latents, in the same form.
        """
        return self.penalty(self.values(pre, latents))

    def values(self, pre: Tensor | Entries, latents: Tensor | Entries) -> Tensor:
        """What the penalty is applied to: the latents."""
        return values_of(latents)

    @property
    def can_anneal(self) -> bool:
        """Whether the penalty is an L1 norm, whose exponent can fall below 1."""
        return isinstance(self.penalty, L1) and getattr(self.penalty, "weights", None) is None

    @property
    def counts_entries(self) -> bool:
        """Whether the entries are enough, because the penalty of a zero is zero."""
        weighted = getattr(self.penalty, "weights", None) is not None  # they need all positions
        return isinstance(self.penalty, (L1, L2, ElasticNet, LogSum)) and not weighted


def values_of(latents: Tensor | Entries) -> Tensor:
    """The matrix, or the values of the entries."""
    return latents.values if isinstance(latents, Entries) else latents
