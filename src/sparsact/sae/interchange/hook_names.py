"""Names of places in a model, as other libraries write them."""

import re

from sparsact.sae.trained_on import TrainedOn


def hooked(model: str | None, hook: str) -> TrainedOn:
    """The record for a hook of TransformerLens.

    The input of block n is recorded as the output of block n − 1, which is the same tensor.

    Example:
        >>> hooked("gpt2-small", "blocks.8.hook_resid_pre").layer
        'blocks.7.hook_resid_post'
    """
    before = re.fullmatch(r"blocks\.(\d+)\.hook_resid_pre", hook)
    if before is None:
        return TrainedOn(model, hook)
    block = int(before[1])
    return TrainedOn(model, f"blocks.{block - 1}.hook_resid_post" if block else "hook_embed")
