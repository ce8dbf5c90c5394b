"""How much of a model's weights a token reads."""

from collections.abc import Iterable, Mapping

from torch import nn

from sparsact.calibration import InputSite
from sparsact.calibration.sites import enclosing_blocks


def weight_bytes(model: nn.Module, skipped: Mapping[str, float] | None = None) -> int:
    """Bytes of weights that decoding one token reads.

    Everything counts but embeddings, of which a token reads a row; an output head that shares its
    weight with them is read whole.

    Args:
        model: any.
        skipped: share of a layer's weight that is not read, by the layer's name.
    """
    total = 0.0
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            continue
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        total += sum(tensor.nbytes for tensor in own) * (1 - (skipped or {}).get(name, 0.0))
    return round(total)


def share_of_sites(model: nn.Module, sites: Iterable[InputSite]) -> float:
    """Of what a token reads of a dense model, the share that belongs to layers of these sites."""
    readers = [reader for site in sites for reader in site.readers]
    return 1 - weight_bytes(model, dict.fromkeys(readers, 1.0)) / weight_bytes(model)


def dense_layers(model: nn.Module) -> tuple[str, ...]:
    """What multiplies densely in a sparse model, experts too, by its place in a block."""
    found: dict[str, None] = {}
    for name, module in model.named_modules():
        own = module.parameters(recurse=False)
        if not isinstance(module, nn.Embedding) and any(weight.ndim > 1 for weight in own):
            block = enclosing_blocks(name)[0]
            found[name.removeprefix(f"{block}.") if block else name] = None
    return tuple(found)


def has_experts(model: nn.Module) -> bool:
    """Whether a token goes to some of several parts."""
    return any("experts" in name.split(".") for name, _ in model.named_modules())
