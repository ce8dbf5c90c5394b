"""The state of a sparse model in a checkpoint: its weights at their stored size, and its plan."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.calibration.linear_layers import weight_t
from sparsact.calibration.plan import ThresholdPlan
from sparsact.calibration.plan_files import PREFIX
from sparsact.inference.connect import connect, find_first_positions
from sparsact.inference.module_places import INITIALISED, module_places, put
from sparsact.inference.sparse_linear import SparseLinear

_DTYPES = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8},
    **{"U8": torch.uint8, "BOOL": torch.bool},
}


class _Kind(NamedTuple):
    dtype: torch.dtype | None
    shape: tuple[int, ...]


class StoredLinear(nn.Module):
    """The place of a sparse layer while its buffers are read from a checkpoint by their names.

    A `SparseLinear` itself has the state of the dense layer.
    """

    def __init__(self, layer: SparseLinear) -> None:
        super().__init__()
        vars(self)["layer"] = layer  # not a submodule, which would have a state
        for name, buffer in layer._buffers.items():
            self.register_buffer(name, buffer)
        # where transformers gives values to what a checkpoint leaves out, it also sees this weight
        vars(self)["weight"] = weight = layer.weight
        setattr(weight, INITIALISED, True)

    def restored(self) -> SparseLinear:
        """The sparse layer with these buffers."""
        layer: SparseLinear = vars(self)["layer"]
        layer._buffers.update(self._buffers)
        return layer


def stored_state(model: nn.Module, plan: ThresholdPlan) -> dict[str, Tensor]:
    """All tensors of a sparse model by name, as they are in memory, and those of its plan."""
    state: dict[str, Any] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        kind = nn.Module if isinstance(module, SparseLinear) else type(module)
        kind._save_to_state_dict(module, state, f"{name}." if name else "", keep_vars=False)
    return state | {PREFIX + name: tensor for name, tensor in plan.tensors().items()}


def prepare(
    model: nn.Module, plan: ThresholdPlan, dtype: str, head: str | None, files: Iterable[str]
) -> None:
    """Put sparse layers without values into a model on the meta device, for its checkpoint.

    Args:
        model: as its class builds it.
        plan: of the layers that were sparse.
        dtype: of their stored weights.
        head: the name of the output head, if it was stored in `dtype` too.
        files: of the checkpoint.

    Raises:
        InputError: the files do not hold such a model; nothing is loaded.
    """
    places = module_places(model)
    inputs = {reader: site.inputs for site in plan.sites for reader in site.readers}
    for name in [*inputs, *([] if head is None else [head])]:
        try:
            linear = model.get_submodule(name)
            width = weight_t(linear).shape[0]
        except AttributeError as error:
            raise InputError(
                f"the checkpoint's sparse layer {name!r} does not fit a {type(model).__name__}: "
                "load it with the class that was saved"
            ) from error
        if width != inputs.get(name, width):
            raise InputError(
                f"the checkpoint does not fit its config: {name!r} has {inputs[name]} inputs in "
                f"the plan, and {width} by the config"
            )
        threshold = torch.zeros((width,) if name in inputs else (), device="meta")
        layer = SparseLinear(linear, threshold, dtype=dtype)
        put(StoredLinear(layer), places[id(linear)])
    _check(model, _kinds(files))


def finish(model: nn.Module, plan: ThresholdPlan) -> nn.Module:
    """Make a prepared model whole, after its tensors have been read."""
    places = module_places(model)
    for module in list(model.modules()):
        if isinstance(module, StoredLinear):
            put(module.restored(), places[id(module)])
    return connect(model, plan, find_first_positions(model, plan.keep_first))


def _kinds(files: Iterable[str]) -> dict[str, _Kind]:
    """The dtype and shape of each tensor in the files of a checkpoint."""
    kinds = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as weights:
                for name in weights.keys():  # noqa: SIM118
                    part = weights.get_slice(name)
                    kinds[name] = _Kind(_DTYPES.get(part.get_dtype()), tuple(part.get_shape()))
        except (SafetensorError, OSError) as error:
            raise InputError(f"{Path(file)} cannot be read, is it complete? ({error})") from error
    return kinds


def _check(model: nn.Module, kinds: dict[str, _Kind]) -> None:
    """Raise InputError unless a checkpoint has every tensor of a prepared model."""
    tied: dict[str, str] = getattr(model, "all_tied_weights_keys", {})
    shared = {*tied, *tied.values()}
    stored = {name for name, module in model.named_modules() if isinstance(module, StoredLinear)}
    for name, tensor in model.state_dict().items():
        is_stored = name.rpartition(".")[0] in stored
        if name not in kinds:
            if name in shared:
                continue  # transformers fills one from the other
            raise InputError(f"the checkpoint has no {name!r}: it is incomplete")
        dtype, shape = kinds[name]
        if shape != tuple(tensor.shape) or (is_stored and dtype != tensor.dtype):
            raise InputError(
                f"the checkpoint does not fit its config: {name!r} is {dtype} {shape}, and "
                f"{tensor.dtype} {tuple(tensor.shape)} by the config"
            )
