"""The rule of each torch operator: what happens to units and to constants.

An operator without a rule keeps the units of its inputs: it may mix them.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sparsact.pruning.convolution_rules import convolution
from sparsact.pruning.norm_rules import batch_norm, group_norm, layer_norm
from sparsact.pruning.operation import Operation, nan_where_not, zero_where
from sparsact.pruning.pointwise_rules import merged_labels, pointwise
from sparsact.pruning.product_rules import addmm, baddbmm, embedding, matmul
from sparsact.pruning.reduction_rules import along, reduce, resample
from sparsact.pruning.units import NO_UNIT, uniform, varies

__all__ = ["RULES", "pointwise", "unknown"]

Rule = Callable[[Operation], None]


def unknown(operation: Operation) -> None:
    """An operator without a rule."""
    for tensor in operation.tensors:
        operation.fix(operation.labels(tensor), "may mix units")
        if operation.changes:
            operation.shadows.forget_values(tensor)
    for index in range(len(operation.outputs)):
        operation.write(output=index)


def random_values(operation: Operation) -> None:
    """Random numbers in place: the shape stays."""
    operation.write(operation.labels(operation.tensors[0]))


def create(operation: Operation) -> None:
    """A new tensor of a fixed shape; only the value 0 is taken for a constant."""
    value = operation.get("fill_value", operation.get("s"))
    zero = "zeros" in operation.name or (isinstance(value, (int, float)) and value == 0)
    zero = zero and operation.outputs[0].ndim == 0  # others may be written to in part
    like = operation.tensors[0] if operation.name.endswith("_like") else None
    labels = None if like is None else operation.labels(like)
    operation.write(labels, torch.tensor(0.0) if zero else None)


def fill(operation: Operation) -> None:
    """One value for all entries, in place; how many these are may depend on the input."""
    value = operation.get("value", 0)
    zero = isinstance(value, (int, float)) and value == 0
    if isinstance(value, Tensor):
        zero = bool(operation.values(value).eq(0).all())
    labels = operation.labels(operation.tensors[0]).clone()
    old = operation.values(operation.tensors[0])
    operation.write(labels, zero_where(old.eq(0)) if zero else None)


def same_shape(operation: Operation) -> None:
    """A copy."""
    x = operation.tensors[0]
    values = operation.values(x)
    if not operation.outputs[0].is_floating_point():
        values = zero_where(values.eq(0))
    operation.write(operation.labels(x), values)


def copy_in_place(operation: Operation) -> None:
    """``copy_``: the entries of another tensor."""
    to, source = operation.get("self"), operation.get("src")
    labels = operation.labels(source).expand(to.shape)
    if operation.labels(to).any() or not operation.units.free(labels).any():
        labels = merged_labels(operation, [to, source], to.shape).clone()
    # another size of the input may write to a part only
    values, old = operation.values(source).expand(to.shape), operation.values(to)
    operation.write(labels, nan_where_not(old.eq(values), values))


def move(operation: Operation) -> None:
    """Entries change their places, and nothing else."""
    labels = operation.on("labels")
    operation.write(labels, operation.on("values"))


def pad_with_own(operation: Operation) -> None:
    """Padding with entries of the tensor itself."""
    double = torch.float64

    def on_double(x: Tensor, *rest: object) -> Tensor:
        padded: Tensor = operation.func(x.to(double), *rest)
        return padded

    operation.write(operation.on("labels", on_double).long(), operation.on("values"))


def pad_with_constant(operation: Operation) -> None:
    """Padding with a number, which is then found at the border only, or adds units."""
    x, pad = operation.get("self"), operation.get("pad")
    labels, zero = operation.labels(x), operation.values(x).eq(0)
    by_dim = {x.ndim - 1 - i // 2: pad[i : i + 2] for i in range(0, len(pad), 2)}
    of_units: list[int] = []
    for dim in reversed(range(x.ndim)):
        sizes = list(by_dim.get(dim, (0, 0)))
        if any(sizes) and not varies(operation.units.free(labels), dim):
            labels, zero = labels.narrow(dim, 0, 1), zero.all(dim, keepdim=True)
            sizes = [0, 0]
        of_units += sizes
    is_zero = operation.get("value", 0) == 0
    labels = torch.constant_pad_nd(labels, of_units, NO_UNIT)
    zero = torch.constant_pad_nd(zero.double(), of_units, 1.0).bool() & is_zero
    shape = operation.outputs[0].shape
    operation.write(labels.expand(shape), zero_where(zero.expand(shape)))


def index(operation: Operation) -> None:
    """Entries chosen by a tensor: units must not differ along the dims of the choice."""
    x = operation.get("self")
    labels, values = operation.labels(x), operation.values(x)
    if operation.name == "index":
        dims = _indexed_dims(operation.get("indices"))
    else:
        dims = operation.dims("dim", x.ndim)
    if any(varies(operation.units.free(labels), dim) for dim in dims):
        operation.fix(labels, "chooses among its units")
        operation.write()
        return
    values = uniform(values, dims).expand(values.shape)

    def replaced(shadow: Tensor) -> Tensor:
        arguments = [shadow if a is x else a for a in operation.args]
        moved: Tensor = operation.func(*arguments, **operation.kwargs)
        return moved

    device = x.device
    operation.write(replaced(labels.to(device)).cpu(), replaced(values.to(device=device)).cpu())


def _indexed_dims(indices: Sequence[Tensor | None]) -> list[int]:
    dims: list[int] = []
    dim = 0
    for each in indices:
        count = each.ndim if each is not None and each.dtype in (torch.bool, torch.uint8) else 1
        if each is not None:
            dims += range(dim, dim + count)
        dim += count
    return dims


def glu(operation: Operation) -> None:
    """``a·sigmoid(b)`` of the halves of a dim."""
    x = operation.tensors[0]
    dim = operation.get("dim", -1)
    left, right = operation.labels(x).chunk(2, dim)
    operation.units.unite(left, right, operation.text)
    a, b = operation.values(x).chunk(2, dim)
    operation.write(left, torch.where(a.eq(0), 0.0, a * torch.sigmoid(b)))


def dropout(operation: Operation) -> None:
    """Random zeros."""
    x = operation.tensors[0]
    for position in range(len(operation.outputs)):
        zero = operation.values(x).eq(0)
        operation.write(operation.labels(x), None if position else zero_where(zero), position)


RULES: dict[str, Rule] = {
    **dict.fromkeys(
        (
            "zeros",
            "ones",
            "full",
            "empty",
            "arange",
            "eye",
            "linspace",
            "scalar_tensor",
            "rand",
            "randn",
            "randint",
            "randperm",
            "zeros_like",
            "ones_like",
            "full_like",
            "empty_like",
            "rand_like",
            "randn_like",
            "new_zeros",
            "new_ones",
            "new_full",
            "new_empty",
            "empty_strided",
            "new_empty_strided",
            "tril_indices",
            "triu_indices",
        ),
        create,
    ),
    **dict.fromkeys(("bernoulli_", "uniform_", "normal_", "random_"), random_values),
    **dict.fromkeys(("fill_", "zero_"), fill),
    **dict.fromkeys(("clone", "_to_copy", "detach", "lift_fresh_copy", "contiguous"), same_shape),
    "copy_": copy_in_place,
    **dict.fromkeys(
        (
            "cat",
            "stack",
            "repeat",
            "flip",
            "roll",
            "pixel_shuffle",
            "pixel_unshuffle",
            "tril",
            "triu",
            "_unsafe_view",
            "native_channel_shuffle",
            "channel_shuffle",
            "_reshape_copy",
        ),
        move,
    ),
    **dict.fromkeys(
        [f"{kind}_pad{k}d" for kind in ("reflection", "replication") for k in (1, 2, 3)],
        pad_with_own,
    ),
    "constant_pad_nd": pad_with_constant,
    **dict.fromkeys(("index", "index_select", "gather"), index),
    **dict.fromkeys(
        (
            "sum",
            "mean",
            "amax",
            "amin",
            "max",
            "min",
            "var",
            "std",
            "linalg_vector_norm",
            "norm",
            "logsumexp",
            "any",
            "all",
            "prod",
            "argmax",
            "argmin",
            "nansum",
        ),
        reduce,
    ),
    **dict.fromkeys(
        ("_softmax", "_safe_softmax", "_log_softmax", "cumsum", "sort", "cumprod"), along
    ),
    **dict.fromkeys(
        [f"{kind}{k}d" for kind in ("avg_pool", "_adaptive_avg_pool") for k in (1, 2, 3)]
        + [f"max_pool{k}d_with_indices" for k in (2, 3)]
        + [f"adaptive_{kind}_pool{k}d" for kind in ("max", "avg") for k in (1, 2, 3)]
        + [f"upsample_{kind}" for kind in ("nearest1d", "nearest2d", "nearest3d", "linear1d")]
        + [f"upsample_{kind}2d" for kind in ("bilinear", "bicubic")]
        + ["upsample_trilinear3d", "_upsample_nearest_exact2d", "_upsample_bilinear2d_aa"],
        resample,
    ),
    **dict.fromkeys(("_prelu_kernel", "hardswish", "hardswish_"), pointwise),
    "glu": glu,
    "native_dropout": dropout,
    "mm": matmul,
    "bmm": matmul,
    "addmm": addmm,
    "baddbmm": baddbmm,
    "convolution": convolution,
    **dict.fromkeys(
        (
            "native_batch_norm",
            "_native_batch_norm_legit",
            "cudnn_batch_norm",
            "_native_batch_norm_legit_no_training",
            "miopen_batch_norm",
        ),
        batch_norm,
    ),
    **dict.fromkeys(("native_layer_norm", "_fused_rms_norm"), layer_norm),
    "native_group_norm": group_norm,
    "embedding": embedding,
}
