"""What a model is fed with while it is calibrated, and how that leaves the model as it was."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from sparsact.calibration.token_positions import Counts, token_positions
from sparsact.hooks import first_tensor

Batch = Tensor | Mapping[str, Any] | tuple[Any, ...] | list[Any]
"""One forward's input: a tensor, keyword inputs, or positional ones."""

LossFunction = Callable[[Any, Batch], Tensor]
"""Takes the model's output and the batch; gives the loss summed over what counts."""

Target = Callable[[Any, Batch], Tensor]
"""Takes the model's output and the batch; gives what is to stay as the dense model has it."""


def run(model: nn.Module, batch: Batch, values: dict[str, Tensor] | None = None) -> Any:
    """The model's output for one batch, moved to the model's device.

    Args:
        model: called.
        batch: what it takes.
        values: take the place of parameters of these names.
    """
    batch = _to(batch, next((p.device for p in model.parameters()), torch.device("cpu")))
    args: tuple[Any, ...] = tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)
    kwargs: dict[str, Any] = {}
    if isinstance(batch, Mapping):
        args, kwargs = (), dict(batch)
    if values:
        return functional_call(model, values, args, kwargs)
    return model(*args, **kwargs)


def run_to_head(model: nn.Module, batch: Batch) -> None:
    """:func:`run` for what hooks see on the way: it ends before the output head, a large layer."""
    head = output_head(model)
    handle = None if head is None else head.register_forward_pre_hook(_stop)
    try:
        run(model, batch)
    except _ReachedError:
        pass
    finally:
        if handle is not None:
            handle.remove()


class _ReachedError(Exception):
    """The output head is next."""


def _stop(*_: Any) -> None:
    raise _ReachedError


def output_head(model: nn.Module) -> nn.Module | None:
    """The layer that gives the logits of a Hugging Face model."""
    get = getattr(model, "get_output_embeddings", None)
    head: nn.Module | None = get() if callable(get) else None
    return head


def counted(batch: Batch, keep_first: int = 0) -> Tensor | None:
    """(rows, length) bool, False at padding and at the first tokens; None where all count."""
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    mask = mask.bool() if isinstance(mask, Tensor) and mask.ndim == 2 else None
    if keep_first == 0:
        return mask
    inputs = batch if isinstance(batch, Mapping) else {}
    inputs = {name: value for name, value in inputs.items() if value is not None}
    later = token_positions(inputs, Counts(), first_tensor(batch)) >= keep_first
    return later if mask is None else mask & later.to(mask.device)


def that_count(batches: Iterable[Batch], keep_first: int, what: str) -> list[Batch]:
    """Those of which something counts.

    Raises:
        ValueError: there are none; `what` says for what.
    """
    found = list(read_twice(batches))
    if not found:
        raise ValueError(f"there are no batches to {what} on")
    marks = [counted(batch, keep_first) for batch in found]
    chosen = [
        batch for batch, kept in zip(found, marks, strict=True) if kept is None or bool(kept.any())
    ]
    if not chosen:
        raise ValueError(nothing_counts(keep_first))
    return chosen


def nothing_counts(keep_first: int) -> str:
    """What is wrong with batches that are all padding."""
    first = f" or among the first {keep_first} of a sequence" if keep_first else ""
    return f"no token counts: all are padding{first}"


def rows_of(x: Tensor, kept: Tensor | None) -> Tensor:
    """The rows of an activation (..., width) that do not belong to padding, as (n, width)."""
    flat = x.reshape(-1, x.shape[-1])
    kept = None if kept is None else as_tokens_of(x, kept)
    return flat if kept is None else flat[kept]


def as_tokens_of(x: Tensor, marks: Tensor) -> Tensor | None:
    """Marks (rows, length) in the order of an activation's tokens, (n,); None if it has others.

    Some models have the length first.
    """
    if marks.numel() != x.shape[:-1].numel():
        return None
    swapped = x.ndim > 2 and x.shape[:2] == marks.shape[::-1] != marks.shape
    return (marks.t() if swapped else marks).reshape(-1).to(x.device)


def read_twice(batches: Iterable[Batch]) -> Sequence[Batch] | Iterable[Batch]:
    """`batches`, which are gone through more than once: an iterator is read into a list."""
    check_batches(batches)
    return list(batches) if iter(batches) is batches else batches


def check_batches(batches: Iterable[Batch]) -> None:
    """Raise TypeError for what is one batch, and would be gone through row by row."""
    if isinstance(batches, (Tensor, Mapping)):
        raise TypeError(
            f"batches must be a sequence of batches, got one {type(batches).__name__}: wrap it in "
            "a list"
        )


def drawn_label_loss(output: Any, batch: Batch) -> Tensor:
    """Cross-entropy of labels drawn from the model's own prediction, summed over what counts.

    The mean square of its gradient is the diagonal of the Fisher information: the curvature, at
    the model itself, of the KL divergence of a changed model from it. Labels of the text in their
    place give a few badly predicted tokens most of the weight.

    Raises:
        ValueError: the output has no logits.
    """
    logits = getattr(output, "logits", None)
    if not isinstance(logits, Tensor):
        raise ValueError(
            f"the score 'loss' needs a loss, and the model's output ({type(output).__name__}) has "
            "no logits: give loss_fn=, which takes the output and the batch and returns the summed "
            "loss, or take another score"
        )
    flat = rows_of(logits, counted(batch)).float()
    generator = torch.Generator(flat.device).manual_seed(len(flat))
    # by the cumulated probabilities: torch.multinomial takes five times as long
    reached = flat.detach().softmax(-1).cumsum(-1)
    level = torch.rand(len(flat), 1, generator=generator, device=flat.device) * reached[:, -1:]
    drawn = torch.searchsorted(reached, level).squeeze(-1).clamp(max=flat.shape[-1] - 1)
    return cross_entropy(flat, drawn, reduction="sum")


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Run the model in eval mode, without a cache and without its parameters' gradients.

    An inference mode around it is suspended: gradients are needed at activations.
    """
    training = {module: module.training for module in model.modules()}
    wants = {parameter: parameter.requires_grad for parameter in model.parameters()}
    config: Any = getattr(model, "config", None)
    cache = getattr(config, "use_cache", None)
    model.eval().requires_grad_(False)
    if cache:
        config.use_cache = False
    try:
        with torch.inference_mode(False):
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
