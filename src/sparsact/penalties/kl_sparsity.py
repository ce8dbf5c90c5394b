"""A penalty on how often units are active."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.penalties.base_penalty import Coefficient, Penalty, check_coefficient, fixed
from sparsact.thresholds.arguments import accumulate_dtype, check_input, values_can_be_read


@dataclass(frozen=True)
class KLSparsity(Penalty):
    """``coef·Σ_j ρ·log(ρ/ρ̂_j) + (1 − ρ)·log((1 − ρ)/(1 − ρ̂_j))``, ρ̂_j the mean of unit j.

    It pulls the mean activation of every unit towards ρ. It is a function of means over the batch
    and not a sum over samples, so attach it with ``reduction="sum"`` to get exactly this value.

    Args:
        coef: coefficient ≥ 0, or a schedule of it.
        rho: ρ in (0, 1), the target of the mean.
        unit_dim: the dim of the units; the mean is over all other dims.

    Raises:
        ValueError: an input lies outside [0, 1], where the divergence is not defined. Checked in
            eager mode on the CPU only. A sigmoid, for example, gives values in [0, 1].

    Example:
        >>> KLSparsity(1.0, rho=0.5)(torch.tensor([[0.2, 0.5], [0.8, 0.5]]))
        tensor(0.)

    Source:
        Ng, "Sparse autoencoder", CS294A lecture notes (2011). Here ρ̂ is clamped to one float32
        epsilon away from 0 and 1, and has the gradient 0 where it is clamped.
    """

    zero_is_free: ClassVar[bool] = False

    coef: Coefficient
    rho: float = 0.05
    unit_dim: int = -1

    def __post_init__(self) -> None:
        check_coefficient(self.coef, "coef")
        if not 0 < self.rho < 1:
            raise InputError(f"rho= must lie strictly between 0 and 1, got {self.rho}")

    def __call__(self, x: Tensor) -> Tensor:
        """The penalty on `x`: a scalar."""
        check_input(x, "KLSparsity")
        dtype = accumulate_dtype(x)
        if x.numel() == 0:
            return fixed(self.coef) * x.sum(dtype=dtype)
        _check_probabilities(x)
        sample_dims = [d for d in range(x.ndim) if d != self.unit_dim % x.ndim]
        mean = x.mean(sample_dims, dtype=dtype) if sample_dims else x.to(dtype)
        eps = torch.finfo(torch.float32).eps
        mean = mean.clamp(eps, 1 - eps)
        rho = self.rho
        on = rho * (torch.log(rho / mean))
        off = (1 - rho) * torch.log((1 - rho) / (1 - mean))
        return fixed(self.coef) * (on + off).sum()


def _check_probabilities(x: Tensor) -> None:
    if not values_can_be_read(x.detach()):
        return
    low, high = (float(bound) for bound in x.detach().aminmax())
    slack = torch.finfo(x.dtype).eps  # rounding can lift a softmax above 1
    if not (low >= 0 and high <= 1 + slack):
        raise InputError(
            f"KLSparsity expects values in [0, 1], got values in [{low:.4g}, {high:.4g}]; put it "
            "on the output of a sigmoid"
        )
