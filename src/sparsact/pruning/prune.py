"""`prune_zero_units`: removing zero units from a model in place, and the report of it."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sparsact.pruning.model_calls import count_flops
from sparsact.pruning.rounds import Rounds

_SIZES = (
    "in_features",
    "out_features",
    "in_channels",
    "out_channels",
    "num_features",
    "num_parameters",
    "embedding_dim",
    "groups",
)


@dataclass(frozen=True)
class PruningReport:
    """The result of :func:`prune_zero_units`.

    Attributes:
        removed: layer → number of removed units.
        kept: layer → why some of its zero units were not removed.
        parameters_before: number of parameters.
        parameters_after: number of parameters after pruning.
        flops_before: floating-point operations of a forward of the example input, as
            ``torch.utils.flop_counter`` counts them: a multiplication and an addition are two.
        flops_after: the same after pruning.
    """

    removed: Mapping[str, int]
    kept: Mapping[str, str]
    parameters_before: int
    parameters_after: int
    flops_before: int
    flops_after: int


def prune_zero_units(model: nn.Module, example_input: Any) -> PruningReport:
    """Remove, in place, units of ``nn.Linear`` and convolutions whose weights are exactly zero.

    A unit is an output of a linear layer or a filter of a convolution. It is removed, together
    with everything that depends on it, in two cases:

    - Its incoming weights are zero. The unit then emits a constant, act(bias), which is added to
      the biases of the layers that read it. Batch norms in between count as in eval mode. If the
      constant is not 0 and a reading convolution pads with zeros, the edges would differ, and the
      unit is kept.
    - All weights that read it are zero.

    Units that are added to one another, as in residual networks, are removed only if all of them
    may be. Outputs of the model, and units read by a LayerNorm or another norm over units, are
    always kept, and a layer keeps at least one unit. Zero weights result from a group lasso with
    :class:`sparsact.optim.Proximal`, on units with ``GroupLasso(c, dim=1)`` for ``nn.Linear`` and
    ``dim=(1, 2, 3)`` for ``nn.Conv2d``.

    Pruning runs on a copy, which is checked. If this fails, the model is unchanged. Hooks are
    kept. Changed layers have new parameters, so create the optimizer afterwards.

    Args:
        model: the model.
        example_input: the input of a forward: a tensor, a tuple of positional arguments or a
            mapping of keyword arguments.

    Returns:
        the removed and kept units, with reasons, and the size before and after.

    Raises:
        RuntimeError: the outputs in eval mode differ by more than 1e-5, relative to the largest
            output. Either the model mixes units outside its layers, or it is in half precision,
            which is too coarse for this check; then prune in float32.
        ImportError: Torch-Pruning is not installed; install the extra ``prune``.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> with torch.no_grad():
        ...     _ = model[0].weight[:5].zero_()
        >>> report = prune_zero_units(model, torch.randn(3, 4))
        >>> model[0], model[2]
        (Linear(in_features=4, out_features=3, bias=True),
         Linear(in_features=3, out_features=2, bias=True))
        >>> report.parameters_before, report.parameters_after
        (58, 23)

    Source:
        Fang et al., "DepGraph: towards any structural pruning" (2023), which finds the units that
        depend on one another.
    """
    original = copy.deepcopy(model).eval()
    rounds = Rounds(copy.deepcopy(original), example_input)
    rounds.run()
    report = PruningReport(
        removed=rounds.removed,
        kept=rounds.kept,
        parameters_before=_count_parameters(original),
        parameters_after=_count_parameters(rounds.model),
        flops_before=count_flops(original, example_input),
        flops_after=count_flops(rounds.model, example_input),
    )
    _take_over(model, rounds.model)
    return report


def _count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def _take_over(model: nn.Module, pruned: nn.Module) -> None:
    """Copy the tensors and sizes that differ from the pruned copy into `model`."""
    for name, smaller in pruned.named_modules():
        module = model.get_submodule(name)
        for key, new in smaller.named_parameters(recurse=False):
            old = getattr(module, key)
            if old is None or old.shape != new.shape:
                trains = old is None or old.requires_grad
                setattr(module, key, nn.Parameter(new.detach().clone(), trains))
            elif not old.equal(new):
                old.copy_(new)
        for key, buffer in smaller.named_buffers(recurse=False):
            if getattr(module, key).shape != buffer.shape:
                setattr(module, key, buffer)
        for key in _SIZES:
            if key in vars(smaller):
                setattr(module, key, getattr(smaller, key))
