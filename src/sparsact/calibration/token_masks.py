"""Which tokens count: all but padding and the first tokens of a sequence, which stay dense."""

from collections.abc import Iterable, Mapping

from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.calibration.batches import Batch, no_batches, reusable_batches
from sparsact.calibration.token_positions import Counts, token_positions
from sparsact.hooks import first_tensor


def counted_tokens(batch: Batch, keep_first: int = 0) -> Tensor | None:
    """(rows, length) bool, False at padding and at the first tokens; None where all count."""
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    mask = mask.bool() if isinstance(mask, Tensor) and mask.ndim == 2 else None
    if keep_first == 0:
        return mask
    inputs = batch if isinstance(batch, Mapping) else {}
    inputs = {name: value for name, value in inputs.items() if value is not None}
    later = token_positions(inputs, Counts(), first_tensor(batch)) >= keep_first
    return later if mask is None else mask & later.to(mask.device)


def batches_that_count(batches: Iterable[Batch], keep_first: int, purpose: str) -> list[Batch]:
    """The batches that have a token that counts.

    Raises:
        InputError: there are none to `purpose` on.
    """
    candidates = list(reusable_batches(batches))
    if not candidates:
        raise no_batches(purpose)
    masks = [counted_tokens(batch, keep_first) for batch in candidates]
    counted = [
        batch
        for batch, mask in zip(candidates, masks, strict=True)
        if mask is None or bool(mask.any())
    ]
    if not counted:
        raise no_token_counts(keep_first)
    return counted


def no_token_counts(keep_first: int) -> InputError:
    """The error for batches that hold nothing but padding and first tokens."""
    first = f" or among the first {keep_first} of a sequence" if keep_first else ""
    return InputError(f"no token counts: all are padding{first}")


def counted_rows(x: Tensor, mask: Tensor | None) -> Tensor:
    """The rows of an activation (..., width) whose tokens count, as (n, width)."""
    flat = x.reshape(-1, x.shape[-1])
    mask = None if mask is None else as_tokens_of(x, mask)
    return flat if mask is None else flat[mask]


def as_tokens_of(x: Tensor, marks: Tensor) -> Tensor | None:
    """Marks (rows, length) in the order of an activation's tokens, (n,).

    Some models have the length first. None if the activation has another number of tokens.
    """
    if marks.numel() != x.shape[:-1].numel():
        return None
    swapped = x.ndim > 2 and x.shape[:2] == marks.shape[::-1] != marks.shape
    return (marks.t() if swapped else marks).reshape(-1).to(x.device)
