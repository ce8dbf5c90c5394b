"""NuclearNorm: the sum of singular values, which gives matrices of low rank."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.penalties.base_penalty import Coefficient, Penalty, check_coefficient, fixed
from sparsact.penalties.sharded_parameters import gather
from sparsact.penalties.sorted_l1 import check_joint_prox
from sparsact.thresholds.arguments import widen
from sparsact.thresholds.complex_modulus import is_complex


@dataclass(frozen=True)
class NuclearNorm(Penalty):
    """``coef·Σ σ_i``, the sum of the singular values of a matrix, real or complex.

    The prox shrinks the singular values, so the small ones become 0 and the rank falls.

    Args:
        coef: coefficient ≥ 0, or a schedule of it.
        flatten: False takes the last two dims as a matrix, one for each index of the others. True
            takes the first dim as rows and all others as columns, as for a convolution's weight.

    Gradient:
        exact: ``U·Vᴴ`` over the singular values above rounding; the others have the slope 0.

    Raises:
        InputError: the input has fewer than two dims. At a prox: a step size per entry
            or a sharded weight.

    Example:
        >>> NuclearNorm(0.5)(torch.diag(torch.tensor([3.0, 1.0])))
        tensor(2.)
        >>> NuclearNorm(1.0).prox(torch.diag(torch.tensor([3.0, 0.5])), step=1.0)
        tensor([[2., 0.],
                [0., 0.]])

    Source:
        Cai, Candès & Shen, "A singular value thresholding algorithm for matrix completion" (2010),
        theorem 2.1.
    """

    prox_is_entrywise: ClassVar[bool] = False
    is_magnitude_sum: ClassVar[bool] = False

    coef: Coefficient
    flatten: bool = False

    def __post_init__(self) -> None:
        check_coefficient(self.coef, "coef")

    def __call__(self, x: Tensor) -> Tensor:
        """The penalty on `x`: a scalar."""
        matrices = gather(self._matrices(x))
        if matrices.numel() == 0:
            return matrices.abs().sum()
        values: Tensor = torch.linalg.svdvals(matrices)
        noise = torch.finfo(values.dtype).eps * max(matrices.shape[-2:])
        floor = noise * values.detach().amax(-1, keepdim=True)
        return fixed(self.coef) * torch.where(values <= floor, values.detach(), values).sum()

    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """Singular values minus ``step·coef``, 0 below that."""
        check_joint_prox(self, x, step)
        matrices = self._matrices(x)
        lambd = step * fixed(self.coef)
        if matrices.numel() == 0:
            return x.clone()
        left, values, right = torch.linalg.svd(matrices, full_matrices=False)
        shrunk = (values - lambd).relu()
        rebuilt = (left * shrunk.unsqueeze(-2)) @ right
        restored: Tensor = rebuilt.reshape(x.shape).to(x.dtype)
        return restored

    def _matrices(self, x: Tensor) -> Tensor:
        if x.ndim < 2:
            raise InputError(f"NuclearNorm needs two dims or more, got shape {tuple(x.shape)}")
        wide = x if is_complex(x) else widen(x)
        return wide.flatten(1) if self.flatten else wide
