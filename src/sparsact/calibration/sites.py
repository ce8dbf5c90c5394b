"""Where a threshold can stand: the tensors that linear layers read."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sparsact.calibration.batches import Batch, output_head, run, unchanged
from sparsact.hooks import Taps, check_hookable, select_modules, version_of


@dataclass(frozen=True)
class InputSite:
    """One tensor of a forward that one or more linear layers read.

    The query, key and value projections of an attention layer share a site, and so do the gate
    and up projections of a gated MLP: an input that is zero saves its weights in all of them.

    Attributes:
        name: of the first layer that reads it.
        readers: names of all of them.
        inputs: entries of the tensor's last dim.
        outputs: output features of all readers together: the weights that one zero saves.
    """

    name: str
    readers: tuple[str, ...]
    inputs: int
    outputs: int

    @property
    def label(self) -> str:
        """``model.layers.0.self_attn.q_proj|k_proj|v_proj``."""
        short = [reader.rpartition(".")[2] for reader in self.readers[1:]]
        return "|".join([self.name, *short])

    @property
    def weights(self) -> int:
        """The number of weights that read it."""
        return self.inputs * self.outputs


def find_sites(
    model: nn.Module,
    batch: Batch,
    *,
    include: str | Iterable[str] = "*",
    exclude: str | Iterable[str] = (),
) -> list[InputSite]:
    """The input sites of a model, found by running it once and seeing who reads which tensor.

    Layers are ``nn.Linear`` and the ``Conv1D`` of GPT-2. The output head of a language model is
    left out, and so is a layer that the forward does not call, or that has a forward of its own.

    Args:
        model: run once, in eval mode and without gradients.
        batch: what its forward takes; see :func:`sparsact.calibration.calibrate`.
        include: globs on the names of the layers (``*`` crosses dots).
        exclude: globs of those to leave dense.

    Returns:
        the sites in the order of the forward.

    Raises:
        ValueError: a pattern matches nothing, no linear layer is left, or one is quantised.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> [(site.name, site.inputs, site.outputs) for site in find_sites(model, torch.ones(1, 4))]
        [('0', 4, 8), ('2', 8, 2)]
    """
    check_hookable(model)
    linears = _choose(model, include, exclude)
    seen: dict[str, list[tuple[Any, ...]]] = {}
    alive: list[Tensor] = []  # a tensor that is gone may leave its memory to another

    def note(name: str, x: Tensor) -> None:
        alive.append(x)
        place = (x.data_ptr() if x.numel() else id(x), x.shape, x.stride(), version_of(x))
        seen.setdefault(name, []).append(place)

    taps = Taps(linears, note, "input")
    try:
        with unchanged(model), torch.no_grad():
            run(model, batch)
    finally:
        taps.remove()
    together: dict[tuple[Any, ...], list[str]] = {}
    for name, places in seen.items():
        together.setdefault(tuple(places), []).append(name)
    if not together:
        raise ValueError("the forward of the model calls none of its linear layers")
    return [_site(names, linears) for names in together.values()]


def weight_t(linear: nn.Module) -> Tensor:
    """The weight of a linear layer as (in, out), a view."""
    weight: Tensor = linear.weight.detach()  # type: ignore[operator]
    return weight if is_conv1d(linear) else weight.t()


def is_linear(module: nn.Module) -> bool:
    """Whether a module is a linear layer that can be read, and does nothing else."""
    plain = isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward
    return plain or is_conv1d(module)


def is_conv1d(module: nn.Module) -> bool:
    """Whether it is GPT-2's linear layer, whose weight is (in, out)."""
    kind = type(module)
    return (kind.__module__, kind.__name__) == ("transformers.pytorch_utils", "Conv1D")


def _site(names: list[str], linears: dict[str, nn.Module]) -> InputSite:
    weights = [weight_t(linears[name]) for name in names]
    return InputSite(
        names[0], tuple(names), weights[0].shape[0], sum(weight.shape[1] for weight in weights)
    )


def _choose(
    model: nn.Module, include: str | Iterable[str], exclude: str | Iterable[str]
) -> dict[str, nn.Module]:
    _check_readable(model)
    head = output_head(model)
    linears = {
        name: module
        for name, module in model.named_modules()
        if is_linear(module) and module is not head
    }
    if not linears and _says_quantised(model):
        raise _quantised(f"the model is quantised ({type(model).__name__})")
    if not linears:
        raise ValueError(f"{type(model).__name__} has no linear layer to skip the inputs of")
    included, excluded = _matched(model, include), _matched(model, exclude)
    chosen = {
        name: module
        for name, module in linears.items()
        if id(module) in included and id(module) not in excluded
    }
    if not chosen:
        raise ValueError(
            f"include={include!r} and exclude={exclude!r} leave no linear layer of the model"
        )
    return chosen


def _matched(model: nn.Module, given: str | Iterable[str]) -> set[int]:
    """The modules by identity: one that has two names is matched by either."""
    patterns = [given] if isinstance(given, str) else given
    return {id(found) for pattern in patterns for found in select_modules(model, pattern).values()}


def _check_readable(model: nn.Module) -> None:
    """Raise ValueError where weights are quantised, or made sparse already."""
    for name, module in model.named_modules():
        kind = type(module).__name__
        if kind == "SparseLinear":
            raise ValueError(f"{name!r} is a {kind}: this model is sparse already")
        if _is_quantised(module):
            raise _quantised(f"{name!r} is quantised ({kind})")


def _quantised(what: str) -> ValueError:
    return ValueError(
        f"{what}, and its weights cannot be read: calibrate it in float32 or bfloat16; sparsify "
        "can store int8 itself"
    )


def _says_quantised(model: nn.Module) -> bool:
    """What a model says of itself: one of a GGUF file says so too, and its weights are plain."""
    config = getattr(model, "config", None)
    return bool(
        getattr(model, "is_quantized", False) or getattr(config, "quantization_config", None)
    )


def _is_quantised(module: nn.Module) -> bool:
    if not hasattr(module, "in_features"):
        return False
    if "quantized" in type(module).__module__.split(".") or hasattr(module, "qweight"):
        return True
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor):
        return False
    wide = weight.is_floating_point() and weight.element_size() > 1
    if not isinstance(module, nn.Linear):
        return not wide
    plain = type(weight.data) in (Tensor, nn.Parameter)
    return not (plain and wide and tuple(weight.shape) == (module.out_features, module.in_features))
