"""Where a threshold can act: the tensors that linear layers read."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.calibration.batches import Batch
from sparsact.calibration.linear_layers import linear_layers, weight_t
from sparsact.calibration.model_forward import forward, unchanged
from sparsact.hooks import Taps, check_hookable, select_modules, version_of


@dataclass(frozen=True)
class InputSite:
    """A tensor of the forward that one or more linear layers read.

    The query, key and value projections of an attention layer share a site, and so do the gate
    and up projections of a gated MLP: a zero input saves its weights in all of them.

    Attributes:
        name: the first layer that reads the tensor.
        readers: all layers that read it.
        inputs: size of the tensor's last dim.
        outputs: output features of all readers together: the number of weights that one zero saves.
    """

    name: str
    readers: tuple[str, ...]
    inputs: int
    outputs: int

    @property
    def label(self) -> str:
        """All readers in short: ``model.layers.0.self_attn.q_proj|k_proj|v_proj``."""
        short = [reader.rpartition(".")[2] for reader in self.readers[1:]]
        return "|".join([self.name, *short])

    @property
    def weights(self) -> int:
        """The number of weights of all readers."""
        return self.inputs * self.outputs


def find_sites(
    model: nn.Module,
    batch: Batch,
    *,
    include: str | Iterable[str] = "*",
    exclude: str | Iterable[str] = (),
) -> list[InputSite]:
    """Find the input sites of a model: run it once and note which layers read which tensor.

    Layers are ``nn.Linear`` and the ``Conv1D`` of GPT-2. The output head of a language model is
    left out, and so is a layer that the forward does not call, or whose own forward computes
    something else.

    Args:
        model: run once, in eval mode and without gradients.
        batch: the inputs; see :func:`sparsact.calibration.calibrate`.
        include: globs on layer names (``*`` crosses dots).
        exclude: globs on the layers that stay dense.

    Returns:
        the sites in the order of the forward.

    Raises:
        InputError: a pattern matches nothing, no linear layer is left, or one is quantised.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> [(site.name, site.inputs, site.outputs) for site in find_sites(model, torch.ones(1, 4))]
        [('0', 4, 8), ('2', 8, 2)]
    """
    check_hookable(model)
    linears = _chosen_layers(model, include, exclude)
    places_by_layer: dict[str, list[tuple[Any, ...]]] = {}
    alive: list[Tensor] = []  # a freed tensor's memory could be reused by another

    def note(name: str, x: Tensor) -> None:
        alive.append(x)
        place = (x.data_ptr() if x.numel() else id(x), x.shape, x.stride(), version_of(x))
        places_by_layer.setdefault(name, []).append(place)

    with Taps(linears, note, "input"), unchanged(model), torch.no_grad():
        forward(model, batch)
    layers_by_places: dict[tuple[Any, ...], list[str]] = {}
    for name, places in places_by_layer.items():
        layers_by_places.setdefault(tuple(places), []).append(name)
    if not layers_by_places:
        raise InputError("the forward of the model calls none of its linear layers")
    return [_site(names, linears) for names in layers_by_places.values()]


def enclosing_blocks(name: str) -> list[str]:
    """The modules that may be the block of a layer, the widest first.

    The widest ends at the first number in the layer's name. A module of that name may be a plain
    list that the forward never calls; then the block is one of the next ones within. Without a
    number, the block is the model, whose name is empty.

    Example:
        >>> enclosing_blocks("layers.3.0.fc")
        ['layers.3', 'layers.3.0', 'layers.3.0.fc']
    """
    parts = name.split(".")
    numbers = [place for place, part in enumerate(parts) if part.isdigit()]
    if not numbers:
        return [""]
    return [".".join(parts[:stop]) for stop in range(numbers[0] + 1, len(parts) + 1)]


def _site(names: list[str], linears: dict[str, nn.Module]) -> InputSite:
    weights = [weight_t(linears[name]) for name in names]
    return InputSite(
        names[0], tuple(names), weights[0].shape[0], sum(weight.shape[1] for weight in weights)
    )


def _chosen_layers(
    model: nn.Module, include: str | Iterable[str], exclude: str | Iterable[str]
) -> dict[str, nn.Module]:
    linears = linear_layers(model)
    included, excluded = _matching_modules(model, include), _matching_modules(model, exclude)
    chosen = {
        name: module
        for name, module in linears.items()
        if id(module) in included and id(module) not in excluded
    }
    if not chosen:
        raise InputError(
            f"include={include!r} and exclude={exclude!r} leave no linear layer of the model"
        )
    return chosen


def _matching_modules(model: nn.Module, patterns: str | Iterable[str]) -> set[int]:
    """The ids of the modules: a module with two names is matched by either."""
    patterns = [patterns] if isinstance(patterns, str) else patterns
    return {id(module) for glob in patterns for module in select_modules(model, glob).values()}
