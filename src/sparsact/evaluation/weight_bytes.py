"""How many bytes of a model's weights are read for one token."""

from collections.abc import Iterable, Mapping

from torch import nn

from sparsact.calibration import InputSite
from sparsact.calibration.sites import enclosing_blocks


def weight_bytes(model: nn.Module, skipped: Mapping[str, float] | None = None) -> int:
    """Bytes of weights that are read to decode one token.

    Embeddings do not count, because a token reads only one row. An output head that shares its
    weight with an embedding counts in full.

    Args:
        model: any model.
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
    """The share of the bytes read for a token of a dense model that the sites' layers hold."""
    readers = [reader for site in sites for reader in site.readers]
    return 1 - weight_bytes(model, dict.fromkeys(readers, 1.0)) / weight_bytes(model)


def dense_layers(model: nn.Module) -> tuple[str, ...]:
    """Layers of a sparse model that are dense, experts included, by their place in a block."""
    places: dict[str, None] = {}
    for name, module in model.named_modules():
        own = module.parameters(recurse=False)
        if not isinstance(module, nn.Embedding) and any(weight.ndim > 1 for weight in own):
            block = enclosing_blocks(name)[0]
            places[name.removeprefix(f"{block}.") if block else name] = None
    return tuple(places)


def has_experts(model: nn.Module) -> bool:
    """Whether the model has experts, some of which process a token."""
    return any("experts" in name.split(".") for name, _ in model.named_modules())


def coverage_line(model: nn.Module, sites: Iterable[InputSite]) -> str:
    """How much of a dense token's weights a plan can skip some of, for people to read."""
    line = f"its sites are {share_of_sites(model, sites):.0%} of what a dense token reads"
    if has_experts(model):
        return f"{line} (all experts count, and those stored as one tensor are no sites)"
    return line
