"""Parameters whose memory is also another parameter's."""

from torch import nn

from sparsact.pruning.shadows import address


def parameters_that_share(model: nn.Module) -> dict[str, str]:
    """Return parameter → why it must keep its size: another one has the same memory.

    One parameter held by several modules is no such case: it stays one parameter.
    """
    holder: dict[int, str] = {}
    reasons: dict[str, str] = {}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        other = holder.setdefault(address(tensor), name)
        if other != name and address(tensor):
            reasons[name] = f"{name} shares its memory with {other}"
            reasons[other] = f"{other} shares its memory with {name}"
    return reasons
