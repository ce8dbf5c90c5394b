"""What a model of transformers needs, besides sparse layers, for its own methods to work on."""

import copy
import types
from typing import Any

from torch import nn

from sparsact.inference.dense_layer import as_dense
from sparsact.inference.module_places import module_places, put
from sparsact.inference.sparse_linear import SparseLinear


def is_pretrained(model: nn.Module) -> bool:
    """Whether it is a model of transformers, which has ``save_pretrained``."""
    return any(
        (kind.__module__, kind.__name__) == ("transformers.modeling_utils", "PreTrainedModel")
        for kind in type(model).__mro__
    )


def own_config(model: nn.Module) -> None:
    """Give a model a config of its own: other models may be built from the same object."""
    copies: dict[int, Any] = {}
    copy.deepcopy(model.config, copies)
    for module in model.modules():
        config = vars(module).get("config")
        if config is not None:
            module.config = copies.get(id(config), config)


def untie(model: nn.Module, head: str | None) -> None:
    """Let ``tie_weights`` leave an output head alone that has a weight and bias of its own."""
    if head is None:
        return
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        for attribute in ("_tied_weights_keys", "all_tied_weights_keys"):
            keys = getattr(module, attribute, None)
            if isinstance(keys, dict):
                full = {key: f"{prefix}{key}." for key in keys}
                own = {key for key, path in full.items() if path.startswith(f"{head}.")}
                if own:
                    left = {key: value for key, value in keys.items() if key not in own}
                    setattr(module, attribute, left)


def allow_resizing(model: Any) -> None:
    """Let ``resize_token_embeddings`` work on a sparse output head."""
    if isinstance(_output_head(model), SparseLinear):
        model.resize_token_embeddings = types.MethodType(_resize_token_embeddings, model)


def _resize_token_embeddings(self: Any, *args: Any, **kwargs: Any) -> Any:
    """The method of the model's class, around a dense head."""
    head = _output_head(self)
    if not isinstance(head, SparseLinear):
        return type(self).resize_token_embeddings(self, *args, **kwargs)
    put(as_dense(head), module_places(self)[id(head)])
    try:
        return type(self).resize_token_embeddings(self, *args, **kwargs).requires_grad_(False)
    finally:
        dense = _output_head(self)
        dtype = self.hf_quantizer.quantization_config.dtype
        put(SparseLinear(dense, 0.0, dtype=dtype), module_places(self)[id(dense)])


def _output_head(model: Any) -> Any:
    return model.get_output_embeddings()
