"""The dense layer of a sparse one."""

from torch import nn

from sparsact._common.extras import require
from sparsact.inference.sparse_linear import SparseLinear


def as_dense(layer: SparseLinear) -> nn.Module:
    """An ``nn.Linear``, or GPT-2's ``Conv1D``, with a sparse layer's weight as it is stored."""
    state = layer.state_dict()
    dense: nn.Module
    if layer.is_transposed:
        conv1d = require("transformers.pytorch_utils", "transformers").Conv1D
        dense = conv1d(layer.out_features, layer.in_features)
    else:
        has_bias = layer.bias is not None
        dense = nn.Linear(layer.in_features, layer.out_features, bias=has_bias, device="meta")
    dense.load_state_dict(state, assign=True)
    return dense.requires_grad_(False)
