"""A model whose linear layers skip what a plan makes zero."""

from typing import Any

import torch
from torch import Tensor, nn

from sparsact.calibration.first_positions import FirstPositions
from sparsact.calibration.model_forward import output_head
from sparsact.calibration.plan import ThresholdPlan
from sparsact.calibration.token_positions import sequence_readers
from sparsact.hooks import around_forward, check_hookable, shared_parameters
from sparsact.inference.linear import DTYPES, SparseLinear
from sparsact.inference.norms import as_rms_norm

_Place = tuple[Any, str]  # a parent and the name of its child


def sparsify(
    model: nn.Module, plan: ThresholdPlan, dtype: str = "bfloat16", *, head: bool = True
) -> nn.Module:
    """Swap a `SparseLinear` into the place of every linear layer of a plan.

    Layers that read one tensor compute together, and root mean square norms take one call: what
    lies between the layers is nearly half of a small model's time. Old weights are freed as new
    ones are made, so that memory never holds both. ``generate``, caches, batches and padding work
    as before; ``state_dict`` and ``save_pretrained`` give weights under their names, for the dense
    model, rounded to `dtype`.

    Args:
        model: the model that was calibrated; it is changed, for inference only: put into eval mode,
            its parameters frozen.
        plan: what `sparsact.calibrate` gave.
        dtype: in which the weights of these layers are stored: ``"float32"``, ``"bfloat16"`` or
            ``"int8"``. Activations keep theirs; the layers compute float16 in float32, which takes
            two casts more for each.
        head: store the output head of a language model in `dtype` too. It reads all of its inputs;
            where its weight is also the embedding's, that one keeps its own and the head's comes on
            top, unless it is in `dtype` already: then the two stay one. Where `dtype` is no wider
            than the model's, that makes it larger in the end only from float16 to bfloat16
            (SmolLM2-135M: 1.21 times).

    Returns:
        the model.

    Raises:
        TypeError: the plan is no plan but its path, say.
        ValueError: the plan is for another model, or the dtype is unknown. The model is as it was.

    Example:
        >>> import sparsact as sa
        >>> model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
        >>> x = torch.randn(64, 16)
        >>> plan = sa.calibrate(model, [x], sparsity=0.3, score="weight")
        >>> with plan.applied(model), torch.no_grad():
        ...     simulated = model(x)
        >>> fast = sa.sparsify(model, plan, dtype="float32")
        >>> torch.allclose(fast(x), simulated, atol=1e-5)
        True
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}; got {dtype!r}")
    if not isinstance(plan, ThresholdPlan):
        raise TypeError(
            f"plan must be a ThresholdPlan, got a {type(plan).__name__}: read it by "
            "ThresholdPlan.load"
        )
    check_hookable(model)
    plan.check(model)
    places = _places(model)
    if any(id(model.get_submodule(reader)) not in places for reader in plan.samples):
        raise ValueError(
            "the model itself is a linear layer, which no parent holds: wrap it in nn.Sequential"
        )
    whole = _first_positions(model, plan.keep_first)
    last = output_head(model)
    plan.updates.write(model, low_rank=False)
    for site in plan.sites:
        layers = []
        for reader in site.readers:
            linear: Any = model.get_submodule(reader)
            linear.weight.data = plan.updates.weight(reader, linear)
            layers.append(_swap(linear, plan.thresholds[site.name], dtype, places))
        SparseLinear.share(layers, whole)
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False  # likewise
    stays = dtype == "float32" or (last is not None and _is_shared_as(last, DTYPES[dtype], model))
    if head and isinstance(last, nn.Linear) and not stays:
        _swap(last, torch.zeros(()), dtype, places)
    for old in list(model.modules()):
        norm = as_rms_norm(old) if id(old) in places else None
        if norm is not None:
            _put(norm, places[id(old)])
    return model.eval().requires_grad_(False)


def _is_shared_as(head: nn.Module, dtype: torch.dtype, model: nn.Module) -> bool:
    """Whether a copy of a head's weight would stand beside the same in another module."""
    return head.weight.dtype == dtype and id(head.weight) in shared_parameters(model)


def _swap(
    old: nn.Module, threshold: Tensor, dtype: str, places: dict[int, list[_Place]]
) -> SparseLinear:
    new = SparseLinear(old, threshold, dtype=dtype)
    _put(new, places[id(old)])
    return new


def _put(new: nn.Module, places: list[_Place]) -> None:
    for parent, child in places:
        setattr(parent, child, new)
        if isinstance(parent, nn.TransformerEncoderLayer):
            parent.activation_relu_or_gelu = 0  # no fast path, which reads weights past the layers


def _places(model: nn.Module) -> dict[int, list[_Place]]:
    """Where each module hangs: a module that is used twice has two places."""
    places: dict[int, list[_Place]] = {}
    for parent in model.modules():
        for child, module in parent._modules.items():  # named_children leaves second names out
            places.setdefault(id(module), []).append((parent, child))
    return places


def _first_positions(model: nn.Module, keep_first: int) -> FirstPositions | None:
    if keep_first == 0:
        return None
    whole = FirstPositions(keep_first)
    # bound methods as hooks: a copy of the model gets a copy of `first_positions`
    for reader in sequence_readers(model):
        around_forward(reader, whole.start, whole.end)
    return whole
