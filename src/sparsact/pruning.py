"""Removing units whose weights became exactly zero: a smaller model with the same outputs."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import is_parametrized
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from sparsact._common.extras import require
from sparsact.hooks import first_tensor, shared_parameters

TOLERANCE = 1e-5
CONSTANT = 1e-6  # how far apart, relative to their size, entries of one constant may lie
_BY_UNIT = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.PReLU)
_Part = tuple[nn.Module, Tensor, Tensor]
_Bounds = dict[nn.Module, tuple[Tensor, Tensor]]
_SIZES = (
    "in_features",
    "out_features",
    "in_channels",
    "out_channels",
    "num_features",
    "num_parameters",
)


@dataclass(frozen=True)
class PruningReport:
    """What :func:`prune_zero_units` did.

    Attributes:
        removed: layer → number of its units that were removed.
        kept: layer → why units of it that are zero could not be removed.
        parameters_before: number of parameters.
        parameters_after: the same, afterwards.
        flops_before: floating-point operations of a forward of the example input, a multiply and
            an add counting two, as ``torch.utils.flop_counter`` counts them.
        flops_after: the same, afterwards.
    """

    removed: Mapping[str, int]
    kept: Mapping[str, str]
    parameters_before: int
    parameters_after: int
    flops_before: int
    flops_after: int


def prune_zero_units(model: nn.Module, example_input: Any) -> PruningReport:
    """Remove, in place, the units of ``nn.Linear`` and convolutions that are exactly zero.

    A unit (an output of a linear layer, a filter of a convolution) goes, together with all that
    depends on it, if

    - its incoming weights are zero. It then emits a constant, act(bias), which is added to the
      biases of the layers that read it. The constant passes through batch norms as in eval mode;
      where it is not 0 and a convolution that reads it pads with zeros, its edges differ and the
      unit stays;
    - or every weight that reads it is zero.

    Units that are added to one another, as in residual networks, go only if all of them may. The
    model's outputs and units that a LayerNorm or another norm over units reads are never removed,
    and a layer keeps one unit at least. Zero weights are what a group lasso with
    :class:`sparsact.optim.Proximal` leaves, on units with ``GroupLasso(c, dim=1)`` for
    ``nn.Linear`` and ``dim=(1, 2, 3)`` for ``nn.Conv2d``.

    The work is done and checked on a copy first: if that fails, the model is as it was. Hooks
    stay. Changed layers have new parameters, so build the optimizer afterwards.

    Args:
        model: the model.
        example_input: what its forward takes: a tensor, a tuple of positional arguments or a
            mapping of keyword arguments.

    Returns:
        what was removed, what was not and why, and the size before and after.

    Raises:
        RuntimeError: the outputs in eval mode differ by more than 1e-5, relative to the largest
            output: the model mixes units in a way that is not seen from its layers. It also
            means that half precision is too coarse to tell; prune in float32.
        ImportError: Torch-Pruning is not installed; it comes with the extra ``prune``.

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
        Fang et al., "DepGraph: towards any structural pruning" (2023), for which units depend on
        one another.
    """
    require("torch_pruning", "prune")
    original = copy.deepcopy(model).eval()
    stuck: set[str] = set()
    while True:
        pruning = _Pruning(copy.deepcopy(original).requires_grad_(), example_input, stuck)
        failed = pruning.run()
        if failed is None:
            break
        stuck.add(failed)
    sizes = [_parameters(original), _parameters(pruning.model)]
    flops = [_flops(original, example_input), _flops(pruning.model, example_input)]
    _take_over(model, pruning.model)
    return PruningReport(pruning.removed, pruning.kept, *sizes, *flops)


@dataclass
class _Coupled:
    """Units of several layers that can only be removed together.

    Attributes:
        group: Torch-Pruning's group, over all units.
        names: those of the producers, the first being the layer that the group starts from.
        producers: (layer, its outputs, the unit of each).
        consumers: (layer, its inputs, the unit of each).
        obstacle: why no unit may go.
    """

    group: Any
    names: list[str] = field(default_factory=list)
    producers: list[_Part] = field(default_factory=list)
    consumers: list[_Part] = field(default_factory=list)
    obstacle: str | None = None

    @property
    def name(self) -> str:
        return self.names[0]

    def zero(self) -> Tensor:
        """Per unit, whether no weight leads to it."""
        return self._all(True, self.producers, lambda module: ~_any(_outgoing(module)))

    def unread(self) -> Tensor:
        """Per unit, whether no weight reads it."""
        some = bool(self.consumers)
        return self._all(some, self.consumers, lambda module: ~_any(_incoming(module)))

    def foldable(self, constants: "_Bounds") -> Tensor:
        """Per unit, whether it is a constant that the biases of its readers can replace."""

        def good(module: nn.Module) -> Tensor:
            low, high = constants[module]
            constant = (high - low) <= CONSTANT * high.abs().clamp(min=1)
            return constant & high.eq(0) if _has_edges(module) else constant

        return self._all(True, self.consumers, good)

    def count(self, chosen: Tensor) -> dict[str, int]:
        """Per producer, how many outputs the chosen units are."""
        return {
            name: int(chosen[unit].sum())
            for name, (_, _, unit) in zip(self.names, self.producers, strict=True)
        }

    def _all(
        self, default: bool, parts: "list[_Part]", good: Callable[[nn.Module], Tensor]
    ) -> Tensor:
        """Per unit, whether all entries of it in all of the parts are good."""
        result = torch.full((len(self.group[0].idxs),), default)
        for module, indices, unit in parts:
            result[unit[~good(module)[indices].cpu()]] = False
        return result


class _Pruning:
    """The removal on a copy of the model.

    Args:
        model: the copy, in eval mode; it is changed.
        example: the example input.
        stuck: layers that are known to be coupled with something that cannot be made smaller.
    """

    def __init__(self, model: nn.Module, example: Any, stuck: set[str]) -> None:
        self.model, self.example, self.stuck = model, example, stuck
        self.before = _run(model, example)
        self.removed: dict[str, int] = {}
        self.kept: dict[str, str] = {}

    def run(self) -> str | None:
        """Remove until nothing is left to remove; the layer after which the forward failed.

        A removal can leave zero units behind, so that another round finds more.
        """
        while True:
            found = False
            self.kept = dict.fromkeys(
                self.stuck, "it is coupled with something that cannot be made smaller"
            )
            for coupled in _couplings(self.model, self.example):
                chosen = self._choose(coupled) if coupled.name not in self.stuck else None
                if chosen is None or not chosen.any():
                    continue
                found = True
                coupled.group.prune(chosen.nonzero().flatten().tolist())
                try:
                    after = _run(self.model, self.example)
                except (RuntimeError, ValueError):  # what follows has a size that is fixed
                    return coupled.name
                _check_equal(coupled.name, self.before, after)
                for name, count in coupled.count(chosen).items():
                    self.removed[name] = self.removed.get(name, 0) + count
            if not found:
                return None

    def _choose(self, coupled: "_Coupled") -> Tensor | None:
        """Which units may go; their constants join the biases of what reads them."""
        zero, unread = coupled.zero(), coupled.unread()
        if not (zero | unread).any():
            return None
        if coupled.obstacle is not None:
            self.kept[coupled.name] = coupled.obstacle
            return None
        constants = _constants(self.model, coupled.consumers, self.example)
        chosen = unread | (zero & coupled.foldable(constants))
        if (zero & ~chosen).any():
            self.kept[coupled.name] = (
                "what its zero units emit is not the same everywhere for the layers that read it, "
                "as at the edges of a convolution that pads with zeros, or where something else "
                "is added: bring their biases to zero too"
            )
        if chosen.all():
            self.kept[coupled.name] = "a layer keeps one unit"
            chosen[0] = False
        for module, inputs, unit in coupled.consumers:
            low, high = constants[module]
            gone = inputs[(chosen & ~unread)[unit]]
            _add_to_bias(module, gone, (low + high)[gone] / 2)
        return chosen


def _couplings(model: nn.Module, example: Any) -> Iterator[_Coupled]:
    """The coupled units of every layer, as they are when their turn comes."""
    tp = require("torch_pruning", "prune")
    graph = tp.DependencyGraph()
    # outputs times one: Torch-Pruning marks an output only where no layer has made it
    with torch.enable_grad():
        graph.build_dependency(
            model,
            example,
            forward_fn=lambda model, example: [
                leaf * 1 for leaf in _call(model, example) if leaf.requires_grad
            ],
            verbose=False,
        )
    names = {module: name for name, module in model.named_modules()}
    shared = _with_shared_parameters(model)
    for group in graph.get_all_groups(root_module_types=[nn.Linear, _ConvNd]):
        coupled = _Coupled(group, [names[group[0].dep.target.module]])
        for item in group:
            _sort_in(coupled, graph, item, shared, tp.ops.OPTYPE)
        coupled.names = [names[module] for module, _, _ in coupled.producers] or coupled.names
        yield coupled


def _sort_in(coupled: _Coupled, graph: Any, item: Any, shared: set[nn.Module], kinds: Any) -> None:
    """Enter one member of a group as producer, consumer or obstacle."""
    module, kind = item.dep.target.module, item.dep.target.type
    if kind == kinds.OUTPUT:
        coupled.obstacle = "its units are outputs of the model"
    elif kind == kinds.PARAMETER:
        coupled.obstacle = "a parameter outside torch's own layers depends on its units"
    elif module in shared:
        coupled.obstacle = "a layer coupled with it shares its weights with another"
    elif is_parametrized(module):
        coupled.obstacle = f"a weight of {type(module).__name__} is parametrized"
    elif isinstance(module, (nn.Linear, _ConvNd)):
        if getattr(module, "groups", 1) > 1:
            coupled.obstacle = "a convolution in groups is coupled with it"
            return
        side = (
            coupled.producers
            if graph.is_out_channel_pruning_fn(item.dep.handler)
            else coupled.consumers
        )
        side.append((module, torch.tensor(item.idxs), torch.tensor(item.root_idxs)))
    elif not isinstance(module, _BY_UNIT) and next(module.parameters(), None) is not None:
        coupled.obstacle = f"{type(module).__name__} reads its units together"


def _any(weights: Tensor) -> Tensor:
    return weights.flatten(1).ne(0).any(1)


def _outgoing(module: Any) -> Tensor:
    """The weights of each output of a layer."""
    weight: Tensor = module.weight.detach()
    return weight.transpose(0, 1) if getattr(module, "transposed", False) else weight


def _incoming(module: Any) -> Tensor:
    """The weights of each input of a layer."""
    return _outgoing(module).transpose(0, 1)


def _has_edges(module: nn.Module) -> bool:
    """Whether a constant input gives other outputs at the edges than inside."""
    if not isinstance(module, _ConvNd):
        return False
    if module.transposed:
        return True
    padded = module.padding == "same" or any(p != 0 for p in module.padding if p != "valid")
    return padded and module.padding_mode == "zeros"


def _constants(model: nn.Module, readers: Sequence[_Part], example: Any) -> _Bounds:
    """The least and the largest value of every input of each layer."""
    bounds: _Bounds = {}

    def see(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = first_tensor((args, kwargs))
        assert x is not None
        unit_dim = -1
        if isinstance(module, _ConvNd):
            unit_dim = -1 - len(module.kernel_size)
        low, high = x.movedim(unit_dim, 0).flatten(1).aminmax(dim=1)
        if module in bounds:
            low = torch.minimum(low, bounds[module][0])
            high = torch.maximum(high, bounds[module][1])
        bounds[module] = low, high

    handles = [
        module.register_forward_pre_hook(see, with_kwargs=True)
        for module in {module for module, _, _ in readers}
    ]
    _run(model, example)
    for handle in handles:
        handle.remove()
    return {module: (low.cpu(), high.cpu()) for module, (low, high) in bounds.items()}


@torch.no_grad()
def _add_to_bias(module: Any, inputs: Tensor, constant: Tensor) -> None:
    weight = _incoming(module)[inputs]
    if not constant.any():
        return
    sums = weight.flatten(2).sum(2) if weight.ndim > 2 else weight
    shift = constant.to(sums) @ sums
    if module.bias is None:
        module.bias = nn.Parameter(shift)
    else:
        module.bias += shift


def _with_shared_parameters(model: nn.Module) -> set[nn.Module]:
    shared = shared_parameters(model)
    return {
        module
        for module in model.modules()
        if not shared.isdisjoint(map(id, module.parameters(recurse=False)))
    }


def _call(model: nn.Module, example: Any) -> list[Tensor]:
    """The floating-point tensors that the model returns."""
    if isinstance(example, Mapping):
        output = model(**example)
    elif isinstance(example, (tuple, list)):
        output = model(*example)
    else:
        output = model(example)
    leaves = tree_leaves(output)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()]


@torch.no_grad()
def _run(model: nn.Module, example: Any) -> list[Tensor]:
    return _call(model, example)


def _check_equal(name: str, before: Sequence[Tensor], after: Sequence[Tensor]) -> None:
    for old, new in zip(before, after, strict=True):
        same_shape = old.shape == new.shape
        bound = TOLERANCE * max(1.0, float(old.abs().max())) if old.numel() else 0.0
        if not same_shape or (old.numel() and not float((old - new).abs().max()) <= bound):
            raise RuntimeError(
                f"removing the zero units of {name!r} changes the outputs by more than {TOLERANCE}:"
                " something in the model mixes units that its layers do not show, or the model is "
                "in half precision; the model is unchanged"
            )


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _flops(model: nn.Module, example: Any) -> int:
    with FlopCounterMode(display=False) as counter:
        _run(model, example)
    return int(counter.get_total_flops())


@torch.no_grad()
def _take_over(model: nn.Module, pruned: nn.Module) -> None:
    """Give `model` the tensors and sizes of its pruned copy; what did not change stays."""
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
