"""The check that all gradients are finite, before an optimizer uses them."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer

from sparsact._common.errors import InputError
from sparsact.penalties.sharded_parameters import gather


def check_gradients(optimizer: Optimizer, names: Mapping[str, Tensor]) -> None:
    """Raise ValueError if a gradient is NaN or infinite.

    Args:
        optimizer: its parameters are checked.
        names: name → parameter.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    graded = [p for p in parameters if p.grad is not None and p.grad.numel()]
    if not graded:
        return
    # a sum is finite only if all its terms are, and takes one pass; a finite sum may overflow
    sums = [gather(_values(p).sum()) for p in graded]
    if bool(torch.stack([total.isfinite().to(sums[0].device) for total in sums]).all()):
        return
    bad = [p for p in graded if not bool(gather(_values(p).isfinite().all()))]
    if not bad:
        return
    places = {id(p) for p in bad}
    named = ", ".join(repr(name) for name, p in names.items() if id(p) in places)
    raise InputError(
        f"NaN or infinity in the gradient of {named or 'a parameter outside the model'}: the step "
        "was not taken, and nothing has changed; a torch.amp.GradScaler skips such steps"
    )


def _values(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    gradient = parameter.grad.detach()
    return gradient.coalesce().values() if gradient.is_sparse else gradient
