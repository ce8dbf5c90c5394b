"""Running a model on a batch and leaving it as it was."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sparsact.calibration.batches import Batch
from sparsact.hooks import stop_before


def forward(model: nn.Module, batch: Batch, values: dict[str, Tensor] | None = None) -> Any:
    """The model's output for one batch, which is moved to the device of its first parameter.

    Parameters that accelerate keeps elsewhere do not count: it moves the batch itself.

    Args:
        model: the model.
        batch: its inputs.
        values: tensors that replace the parameters of these names.
    """
    device = next((p.device for p in model.parameters() if not p.is_meta), None)
    batch = batch if device is None else _to(batch, device)
    args: tuple[Any, ...] = tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)
    kwargs: dict[str, Any] = {}
    if isinstance(batch, Mapping):
        args, kwargs = (), dict(batch)
    if values:
        return functional_call(model, values, args, kwargs)
    return model(*args, **kwargs)


def forward_to_head(model: nn.Module, batch: Batch) -> None:
    """:func:`forward` for its hooks only: it ends before the output head, which is large."""
    with stop_before(output_head(model)):
        forward(model, batch)


def output_head(model: nn.Module) -> nn.Module | None:
    """The layer that computes the logits of a Hugging Face model."""
    get = getattr(model, "get_output_embeddings", None)
    head: nn.Module | None = get() if callable(get) else None
    return head


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """A block that runs the model in eval mode, without cache and parameter gradients.

    Everything is restored at the end. An inference mode around the block is suspended, because
    the gradients at activations are needed.
    """
    training = {module: module.training for module in model.modules()}
    trainable = {parameter: parameter.requires_grad for parameter in model.parameters()}
    config: Any = getattr(model, "config", None)
    use_cache = getattr(config, "use_cache", None)
    model.eval().requires_grad_(False)
    if use_cache:
        config.use_cache = False
    try:
        with torch.inference_mode(False):
            yield
    finally:
        if use_cache:
            config.use_cache = use_cache
        for parameter, requires_grad in trainable.items():
            parameter.requires_grad_(requires_grad)
        for module, mode in training.items():
            module.training = mode


def _to(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: _to(value, device) for key, value in batch.items()}
    return (
        type(batch)(_to(item, device) for item in batch) if type(batch) in (tuple, list) else batch
    )
