"""What a model is fed with while it is calibrated, and how that leaves the model as it was."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

Batch = Tensor | Mapping[str, Any] | tuple[Any, ...] | list[Any]
"""One forward's input: a tensor, keyword inputs, or positional ones."""

LossFunction = Callable[[Any, Batch], Tensor]
"""Takes the model's output and the batch; gives the loss summed over what counts."""


def run(model: nn.Module, batch: Batch) -> Any:
    """The model's output for one batch, moved to the model's device."""
    batch = _to(batch, next((p.device for p in model.parameters()), torch.device("cpu")))
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, (tuple, list)) else model(batch)


def kept_positions(batch: Batch) -> Tensor | None:
    """(rows, length) bool, False at padding; None where the batch has no attention mask."""
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    return mask.bool() if isinstance(mask, Tensor) and mask.ndim == 2 else None


def rows_of(x: Tensor, kept: Tensor | None) -> Tensor:
    """The rows of an activation (..., width) that do not belong to padding, as (n, width)."""
    flat = x.reshape(-1, x.shape[-1])
    if kept is None or kept.numel() != len(flat):
        return flat
    return flat[kept.reshape(-1).to(flat.device)]


def read_twice(batches: Iterable[Batch]) -> Sequence[Batch] | Iterable[Batch]:
    """`batches`, which are gone through more than once: an iterator is read into a list."""
    if isinstance(batches, (Tensor, Mapping)):
        raise TypeError(
            f"batches must be a sequence of batches, got one {type(batches).__name__}: wrap it in "
            "a list"
        )
    return list(batches) if iter(batches) is batches else batches


def next_token_loss(output: Any, batch: Batch) -> Tensor:
    """Cross-entropy of each next token, summed over the tokens that are not padding.

    Raises:
        ValueError: the output has no logits for the tokens of the batch.
    """
    logits = getattr(output, "logits", None)
    ids = batch.get("input_ids") if isinstance(batch, Mapping) else batch
    if not isinstance(logits, Tensor) or not isinstance(ids, Tensor) or ids.is_floating_point():
        raise ValueError(
            "the loss of a model that is no language model is not known: give loss_fn=, which "
            "takes the output and the batch and returns the summed loss, or take another score"
        )
    if logits.shape[:-1] != ids.shape:
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} are not for tokens of shape "
            f"{tuple(ids.shape)}: give loss_fn="
        )
    wanted = ids[:, 1:].to(logits.device)
    kept = kept_positions(batch)
    if kept is not None:
        wanted = wanted.masked_fill(~kept[:, 1:].to(logits.device), -100)
    return cross_entropy(logits[:, :-1].flatten(0, 1).float(), wanted.flatten(), reduction="sum")


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Run the model in eval mode, without a cache and without its parameters' gradients."""
    training = {module: module.training for module in model.modules()}
    wants = {parameter: parameter.requires_grad for parameter in model.parameters()}
    config: Any = getattr(model, "config", None)
    cache = getattr(config, "use_cache", None)
    model.eval().requires_grad_(False)
    if cache:
        config.use_cache = False
    try:
        yield
    finally:
        if cache:
            config.use_cache = cache
        for parameter, wanted in wants.items():
            parameter.requires_grad_(wanted)
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
