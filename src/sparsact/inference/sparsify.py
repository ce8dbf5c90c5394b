"""Making a model sparse: its linear layers skip the inputs that a plan makes zero."""

from typing import Any

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.calibration.first_positions import FirstPositions
from sparsact.calibration.model_forward import output_head
from sparsact.calibration.plan import ThresholdPlan
from sparsact.calibration.token_positions import sequence_readers
from sparsact.hooks import around_forward, check_hookable, shared_parameters
from sparsact.inference.rms_norm import as_rms_norm
from sparsact.inference.sparse_linear import DTYPES, SparseLinear

_Place = tuple[Any, str]  # a parent module and the name of the child


def sparsify(
    model: nn.Module, plan: ThresholdPlan, dtype: str = "bfloat16", *, head: bool = True
) -> nn.Module:
    """Replace every linear layer of a plan by a `SparseLinear`.

    Layers that read the same tensor compute together, and root mean square norms take one call,
    because operations between the layers take nearly half of a small model's time. Old weights are
    freed one by one, so memory never holds both models. ``generate``, caches, batches and padding
    work as before. ``state_dict`` and ``save_pretrained`` give the dense model's weights, rounded
    to `dtype`.

    Args:
        model: the model that was calibrated. It is changed, for inference only: it is put into eval
            mode, and its parameters are frozen.
        plan: the result of `sparsact.calibrate`.
        dtype: stored dtype of the weights of these layers: ``"float32"``, ``"bfloat16"``,
            ``"int8"`` or ``"int4"`` (5 bits a weight with its scales). Activations keep their
            dtype; float16 is computed in float32, which takes two more casts per layer.
        head: also store the output head of a language model in `dtype`. The head reads all of its
            inputs. If it shares its weight with the embedding, the embedding keeps its own copy,
            which costs memory, unless the weight already has this dtype: then it stays shared.
            With a `dtype` no wider than the model's, the model becomes larger only from float16 to
            bfloat16 (SmolLM2-135M: 1.21 times).

    Returns:
        the model.

    Raises:
        TypeError: `plan` is not a plan but, for example, its path.
        InputError: the plan is for another model, or the dtype is unknown. The model is unchanged.

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
        raise InputError(f"dtype= must be one of {', '.join(DTYPES)}; got {dtype!r}")
    if not isinstance(plan, ThresholdPlan):
        raise TypeError(
            f"plan must be a ThresholdPlan, got a {type(plan).__name__}: read it with "
            "ThresholdPlan.load"
        )
    check_hookable(model)
    plan.check(model)
    places = _places(model)
    if any(id(model.get_submodule(reader)) not in places for reader in plan.samples):
        raise InputError(
            "the model itself is a linear layer, which no parent holds: wrap it in nn.Sequential"
        )
    first_positions = _first_positions(model, plan.keep_first)
    last = output_head(model)
    plan.updates.write(model, low_rank=False)
    for site in plan.sites:
        layers = []
        for reader in site.readers:
            linear: Any = model.get_submodule(reader)
            linear.weight.data = plan.updates.weight(reader, linear)
            layers.append(_swap(linear, plan.thresholds[site.name], dtype, places))
        SparseLinear.share(layers, first_positions)
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False  # it reads weights without calling the layers
    head_stays = dtype == "float32" or (
        last is not None and _is_shared_as(last, DTYPES[dtype], model)
    )
    if head and isinstance(last, nn.Linear) and not head_stays:
        _swap(last, torch.zeros(()), dtype, places)
    for old in list(model.modules()):
        norm = as_rms_norm(old) if id(old) in places else None
        if norm is not None:
            _put(norm, places[id(old)])
    return model.eval().requires_grad_(False)


def _is_shared_as(head: nn.Module, dtype: torch.dtype, model: nn.Module) -> bool:
    """Whether the head's weight is shared with another module and already has this dtype."""
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
            parent.activation_relu_or_gelu = 0  # no fast path: it reads weights without the layers


def _places(model: nn.Module) -> dict[int, list[_Place]]:
    """The places of each module by its id; a module that is used twice has two."""
    places: dict[int, list[_Place]] = {}
    for parent in model.modules():
        for child, module in parent._modules.items():  # named_children omits second names
            places.setdefault(id(module), []).append((parent, child))
    return places


def _first_positions(model: nn.Module, keep_first: int) -> FirstPositions | None:
    if keep_first == 0:
        return None
    first_positions = FirstPositions(keep_first)
    # bound methods as hooks: a copy of the model gets a copy of `first_positions`
    for reader in sequence_readers(model):
        around_forward(reader, first_positions.start, first_positions.end)
    return first_positions
