"""The gate that a ReLU closes."""

from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.thresholds.arguments import check_positive
from sparsact.thresholds.channel_gate import ChannelGate


class ReluGate(ChannelGate):
    """A gate ``relu(μ)`` for each channel, without noise: the same in training and evaluation.

    The gate may exceed 1. So a network can close it cheaply by enlarging the weights that read the
    channel; weight decay on these weights prevents that. The parameter ``location`` holds μ.

    Args:
        num_parameters: the number of channels, as in :class:`ChannelGate`.
        channel_dim: the dim of the channels.
        start: the initial gate, > 0.
        straight_through: let the loss reopen gates that are closed.

    Gradient:
        exact: ``∂μ`` is 0 where the gate is closed, so a closed gate stays closed. With
        `straight_through`, ``∂μ`` is that of an open gate there, a pseudo-gradient.
        :meth:`expected_l0` counts the open gates; its gradient is straight-through, that of the sum
        of the gates: 1 for each open gate.

    Shape:
        any, returned unchanged.

    Example:
        >>> import torch
        >>> gate = ReluGate(3)
        >>> with torch.no_grad():
        ...     _ = gate.location.copy_(torch.tensor([-0.5, 0.0, 2.0]))
        >>> gate(torch.tensor([[1.0, -2.0, 3.0]]))
        tensor([[0., -0., 6.]], grad_fn=<MulBackward0>)
        >>> gate.expected_l0().item()
        1.0

    Source:
        Liu et al., "Learning efficient convolutional networks through network slimming" (2017),
        whose factors and L1 penalty these are, with a ReLU that makes them reach 0.
    """

    def __init__(
        self,
        num_parameters: int,
        channel_dim: int = -1,
        *,
        start: float = 1.0,
        straight_through: bool = False,
    ) -> None:
        check_positive(start, "start")
        super().__init__(num_parameters, channel_dim, start)
        if not isinstance(straight_through, bool):
            raise InputError(f"straight_through= must be True or False, got {straight_through!r}")
        self.straight_through = straight_through

    def gates(self) -> Tensor:
        """The gates, (num_parameters,), in training and in evaluation."""
        if not self.straight_through:
            return self.location.relu()
        return self.location + (self.location.relu() - self.location).detach()

    def expected_l0(self) -> Tensor:
        """The number of open gates, with the gradient of their sum."""
        size = self.location.relu()
        return ((size > 0).to(size.dtype) + (size - size.detach())).sum()

    def extra_repr(self) -> str:
        """The gates, and whether closed ones can reopen."""
        return super().extra_repr() + (", straight_through=True" if self.straight_through else "")
