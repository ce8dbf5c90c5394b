"""How much of a model's weights a token reads."""

from collections.abc import Mapping

from torch import nn


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
