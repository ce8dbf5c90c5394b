"""The one thing that all threshold modules share: a λ that is fixed or learned."""

import torch
from torch import Tensor, nn

from sparsact._thresholds.arguments import check_threshold


class ThresholdModule(nn.Module):
    """Abstract base: holds λ under the name ``lambd``, whatever a subclass calls it.

    A learned λ is a parameter of shape (n,), stored as itself and used as |λ|: it can reach 0,
    and weight decay pulls it there. A fixed λ is a float or a buffer, and is not part of the
    ``state_dict``.

    Args:
        lambd: the (initial) λ ≥ 0: a float, or a tensor of shape (num_parameters,).
        learnable: make λ a parameter.
        num_parameters: 1, or the number of channels for a λ per channel.
        channel_dim: the dim of the input that holds the channels, as in ``nn.PReLU``; only
            read when there is more than one λ. Use -1 for (…, features).
    """

    lambd: float | Tensor

    def __init__(
        self,
        lambd: float | Tensor = 0.5,
        learnable: bool = False,
        num_parameters: int = 1,
        channel_dim: int = 1,
    ) -> None:
        super().__init__()
        check_threshold(lambd)
        if num_parameters < 1:
            raise ValueError(f"num_parameters must be at least 1, got {num_parameters}")
        if isinstance(lambd, Tensor) and tuple(lambd.shape) not in {(), (num_parameters,)}:
            raise ValueError(
                f"lambd of shape {tuple(lambd.shape)} does not match "
                f"num_parameters={num_parameters}"
            )
        self.learnable = learnable
        self.num_parameters = num_parameters
        self.channel_dim = channel_dim
        if learnable:
            self.lambd = nn.Parameter(_vector(lambd, num_parameters))
        elif isinstance(lambd, Tensor):
            self.register_buffer("lambd", _vector(lambd, num_parameters), persistent=False)
        else:
            self.lambd = float(lambd)

    def threshold(self, x: Tensor) -> float | Tensor:
        """|λ|, in a shape that broadcasts against `x`; its slope at λ = 0 is 1, not 0."""
        if not isinstance(self.lambd, Tensor):
            return self.lambd
        magnitude = torch.where(self.lambd < 0, -self.lambd, self.lambd)
        if self.num_parameters == 1:
            return magnitude.reshape(())
        return magnitude.reshape(self._channel_shape(x))

    def _channel_shape(self, x: Tensor) -> list[int]:
        n, dim = self.num_parameters, self.channel_dim
        if not -x.ndim <= dim < x.ndim:
            raise ValueError(
                f"channel_dim={dim} does not exist in an input of shape {tuple(x.shape)}"
            )
        if x.shape[dim] != n:
            raise ValueError(
                f"num_parameters={n}, but dim {dim} of the input of shape {tuple(x.shape)} "
                f"has size {x.shape[dim]}"
            )
        shape = [1] * x.ndim
        shape[dim] = n
        return shape

    def extra_repr(self) -> str:
        """λ (its mean when there are several) and how it is held."""
        if isinstance(self.lambd, Tensor):
            level = self.lambd.detach().abs().mean().item()
        else:
            level = self.lambd
        parts = [f"lambd={level:.4g}"]
        if self.learnable:
            parts.append("learnable=True")
        if self.num_parameters > 1:
            parts.append(f"num_parameters={self.num_parameters}, channel_dim={self.channel_dim}")
        return ", ".join(parts)


def _vector(lambd: float | Tensor, n: int) -> Tensor:
    if isinstance(lambd, Tensor):
        return lambd.detach().clone().expand(n).contiguous()
    return torch.full((n,), float(lambd))
