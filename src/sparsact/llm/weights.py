"""The weights of a model: how much of them a token reads, and rounded as another model's."""

from collections.abc import Mapping

from torch import nn

from sparsact.calibration.sites import weight_t
from sparsact.inference import SparseLinear


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


def take_weights(model: nn.Module, sparse: nn.Module) -> None:
    """Give a dense model's linear layers the weights of a sparse one, rounded as they are there."""
    for name, layer in sparse.named_modules():
        if isinstance(layer, SparseLinear):
            own = model.get_submodule(name)
            rounded = layer.state_dict()["weight"].to(weight_t(own).dtype)
            # a parameter of its own: where the head is also the embedding, that one stays
            own.weight = nn.Parameter(rounded, requires_grad=False)
