"""Making a model sparse: its linear layers skip the inputs that a plan makes zero."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.calibration.batches import Batch
from sparsact.calibration.model_forward import output_head
from sparsact.calibration.offloaded import check_in_memory
from sparsact.calibration.plan import ThresholdPlan
from sparsact.hooks import check_hookable, shared_parameters
from sparsact.inference.connect import connect, find_first_positions
from sparsact.inference.layer_rounding import layers_rounded_on
from sparsact.inference.module_places import Place, module_places, put
from sparsact.inference.pretrained import allow_resizing, is_pretrained, own_config, untie
from sparsact.inference.sparse_linear import DTYPES, SparseLinear


def sparsify(
    model: nn.Module,
    plan: ThresholdPlan,
    dtype: str = "bfloat16",
    *,
    head: bool = True,
    batches: Iterable[Batch] | None = None,
    keep_dense: str | Path | None = None,
) -> nn.Module:
    """Replace every linear layer of a plan by a `SparseLinear`.

    Layers that read the same tensor compute together, and root mean square norms take one call,
    because operations between the layers take nearly half of a small model's time. Old weights are
    freed one by one, so memory never holds both models. ``generate``, caches, batches and padding
    work as before. ``state_dict`` gives the dense model's weights, rounded to `dtype`.

    ``save_pretrained`` and ``push_to_hub`` of a transformers model write the sparse model: its
    weights at their stored size, its plan and its config. After ``import sparsact``,
    ``AutoModelForCausalLM.from_pretrained`` loads it, without calibration. ``model.dequantize()``
    makes the model dense, with the rounded weights.

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
        batches: for ``"int4"``: inputs as for `sparsact.calibrate`. Weights are then rounded for
            the least error of the layers' outputs on these inputs, after their thresholds, instead
            of each to the nearest value (GPTQ). It takes minutes for 100 M parameters. The head is
            rounded to the nearest values.
        keep_dense: a directory in which a transformers model is saved first, as it is. The config
            of the saved sparse model names it.

    Returns:
        the model.

    Raises:
        TypeError: `plan` is not a plan but, for example, its path.
        InputError: the plan is for another model, the dtype is unknown, `batches` are given for
            another dtype or are empty, or the model has no ``save_pretrained`` for `keep_dense`.
            The model is unchanged.

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
    if batches is not None and dtype != "int4":
        raise InputError(f"batches= are for dtype='int4', got {dtype!r}")
    check_hookable(model)
    check_in_memory(model, "sparsify")
    plan.check(model)
    places = module_places(model)
    if any(id(model.get_submodule(reader)) not in places for reader in plan.samples):
        raise InputError(
            "the model itself is a linear layer, which no parent holds: wrap it in nn.Sequential"
        )
    first_positions = find_first_positions(model, plan.keep_first)
    rounded = {} if batches is None else layers_rounded_on(model, plan, batches, dtype)
    dense = _kept(model, keep_dense)
    last = output_head(model)
    plan.updates.write(model, low_rank=False)
    for site in plan.sites:
        for reader in site.readers:
            linear: Any = model.get_submodule(reader)
            if reader in rounded:
                put(rounded.pop(reader), places[id(linear)])
                continue
            linear.weight.data = plan.updates.weight(reader, linear)
            _swap(linear, plan.thresholds[site.name], dtype, places)
    head_stays = dtype == "float32" or (
        last is not None and _is_shared_as(last, DTYPES[dtype], model)
    )
    head_name = None
    if head and isinstance(last, nn.Linear) and not head_stays:
        head_name = next(name for name, module in model.named_modules() if module is last)
        _swap(last, torch.zeros(()), dtype, places)
    connect(model, plan, first_positions)
    if is_pretrained(model):
        from sparsact.inference.quantizer import attach

        own_config(model)
        untie(model, head_name)
        attach(model, plan, dtype, head_name, dense)
        allow_resizing(model)
    return model


def _kept(model: Any, keep_dense: str | Path | None) -> str:
    """Where the dense model is: it is saved, or comes from there."""
    if not is_pretrained(model):
        if keep_dense is not None:
            raise InputError(
                f"keep_dense= needs a model of transformers, and this is a {type(model).__name__}"
            )
        return ""
    if keep_dense is None:
        return str(model.config.name_or_path)
    model.save_pretrained(keep_dense)
    return str(keep_dense)


def _is_shared_as(head: nn.Module, dtype: torch.dtype, model: nn.Module) -> bool:
    """Whether the head's weight is shared with another module and already has this dtype."""
    return head.weight.dtype == dtype and id(head.weight) in shared_parameters(model)


def _swap(
    old: nn.Module, threshold: Tensor, dtype: str, places: dict[int, list[Place]]
) -> SparseLinear:
    new = SparseLinear(old, threshold, dtype=dtype)
    put(new, places[id(old)])
    return new
