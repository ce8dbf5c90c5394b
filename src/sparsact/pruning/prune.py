"""`prune_zero_units`: removing zero units from a model in place, and the report of it."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sparsact.pruning.model_calls import count_flops
from sparsact.pruning.rounds import Rounds
from sparsact.pruning.shared_storage import parameters_that_share

_SIZES = (
    "in_features",
    "out_features",
    "in_channels",
    "out_channels",
    "num_features",
    "num_parameters",
    "embedding_dim",
    "groups",
    "nf",
    "nx",
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
    """Remove, in place, units that have no effect in eval mode, whatever the input.

    A unit is an output of a linear layer or a filter of a convolution. It is removed, together
    with everything that depends on it, if each layer that reads it

    - has only zero weights for it, or
    - reads 0, or a constant that its bias can take up, at every position and for every input.

    The forward is followed operation by operation, to know which units go together and which
    constants hold for every input: zero weights with a bias, 0 times a gate, a batch norm with
    γ = 0. The example input only sets the shapes; its values are not used. An operation that may
    mix units, or has no rule, keeps them.

    Weights and biases of linear layers and convolutions (grouped ones by whole groups), batch
    norms, ``nn.PReLU``, the thresholds of this library and parameters of one value per channel are
    cut together. Units that are added to one another, as in residual networks, go only together.
    An attention head goes if the module computes the number of heads from the size. Kept, with a
    reason: outputs of the model; units read by a norm over units; constants other than 0 at the
    edges of a convolution that pads with zeros, in sums, or times a number; modules that rely on a
    fixed size; a layer's last unit.

    The calls that a forward makes must not depend on the shape or values of its input: a layer that
    does not run on the example, such as an auxiliary head for training, is not cut to fit. If the
    forward reads values of a tensor in Python, or makes an empty tensor from the example, all units
    are kept. So are parameters that share their memory with another parameter. Zero weights result
    from a group lasso with :class:`sparsact.optim.Proximal`;
    :func:`sparsact.penalties.coupled_groups` finds the groups.

    Pruning runs on a copy. A second pass proves that each operation does the same with the units
    that stay. If the example input does not run, the model is unchanged. Hooks are
    kept. Changed layers have new parameters, so create the optimizer afterwards.

    Args:
        model: the model.
        example_input: the input of a forward: a tensor, a tuple of positional arguments or a
            mapping of keyword arguments.

    Returns:
        the removed and kept units, with reasons, and the size before and after.

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
        Fang et al., "DepGraph: towards any structural pruning" (2023), for units that depend on
        one another.
    """
    original = copy.deepcopy(model).eval()
    rounds = Rounds(copy.deepcopy(original), example_input, parameters_that_share(model))
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
    made: dict[int, nn.Parameter] = {}  # a parameter held by several modules stays one
    for name, smaller in pruned.named_modules():
        module = model.get_submodule(name)
        for key, new in smaller.named_parameters(recurse=False):
            old = getattr(module, key)
            if old is None or old.shape != new.shape:
                trains = old is None or old.requires_grad
                fresh = nn.Parameter(new.detach().clone(), trains)
                setattr(module, key, made.setdefault(id(new), fresh))
            elif not old.equal(new):
                old.copy_(new)
        for key, buffer in smaller.named_buffers(recurse=False):
            if getattr(module, key).shape != buffer.shape:
                setattr(module, key, buffer)
        for key in _SIZES:
            if key in vars(smaller):
                setattr(module, key, getattr(smaller, key))
