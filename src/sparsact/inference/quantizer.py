"""Saving and loading sparse models by transformers' own functions.

transformers calls a way of storing weights a quantizer, and picks it by the ``quant_method`` in a
checkpoint's config. Importing this module registers ours.
"""

import copy
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from sparsact._common.errors import InputError
from sparsact._common.run_directory import versions
from sparsact.calibration.plan import ThresholdPlan
from sparsact.calibration.plan_files import FORMAT, METHOD, PREFIX, check_format, plan_tensors
from sparsact.inference.dense_layer import as_dense
from sparsact.inference.module_places import module_places, put
from sparsact.inference.pretrained import allow_resizing, untie
from sparsact.inference.sparse_linear import SparseLinear
from sparsact.inference.stored_model import finish, prepare, stored_state


@register_quantization_config(METHOD)
class SparseModelConfig(QuantizationConfigMixin):
    """What the config of a saved sparse model says about it.

    Args:
        plan: the description of its plan; the plan's tensors are among the weights.
        dtype: of the stored weights of its sparse layers.
        head: the name of the output head, if it is stored in `dtype` too.
        dense: where the dense model is: a directory or a name on the hub.
        format: of the checkpoint.
        version: of sparsact that wrote it.

    Raises:
        InputError: the format is newer than this version of sparsact.
    """

    def __init__(
        self,
        plan: dict[str, Any] | None = None,
        dtype: str = "",
        head: str | None = None,
        dense: str | None = None,
        format: int | None = None,  # its name in the file
        version: str | None = None,
        **_: object,
    ) -> None:
        self.quant_method = METHOD
        self.plan, self.dtype, self.head, self.dense = plan or {}, dtype, head, dense
        self.format, self.version = format, version
        check_format(vars(self))


@register_quantizer(METHOD)
class SparseModelQuantizer(HfQuantizer):
    """Writes a sparse model's weights at their stored size, and reads them again.

    Attributes:
        plan: the plan of the model.
    """

    plan: ThresholdPlan

    def get_state_dict_and_metadata(
        self, model: Any, *_: object
    ) -> tuple[dict[str, Tensor], dict[str, str]]:
        """What ``save_pretrained`` writes as the model's weights."""
        model._weight_conversions = []  # names stay as they are
        return stored_state(model, self.plan), {}

    def update_weight_conversions(self, *_: object) -> list[Any]:
        """None: the names in a saved sparse model are the model's own."""
        return []

    def is_serializable(self, *_: object) -> bool:
        """Whether it can be saved."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Whether the model can be trained."""
        return False

    @property
    def is_compileable(self) -> bool:
        """Whether ``generate`` may compile the model, as it may compile the dense one."""
        return True

    def _process_model_before_weight_loading(
        self, model: Any, checkpoint_files: list[str] | None = None, **_: object
    ) -> None:
        settings = self.quantization_config
        if not checkpoint_files or not checkpoint_files[0].endswith(".safetensors"):
            raise InputError("a sparse model is loaded from its safetensors files")
        untie(model, settings.head)
        self.plan = _plan(settings.plan, checkpoint_files)
        prepare(model, self.plan, settings.dtype, settings.head, checkpoint_files)
        unexpected: Any = getattr(model, "_keys_to_ignore_on_load_unexpected", None)
        kind = set if isinstance(unexpected, set) else list  # it was a list in transformers 5.0
        model._keys_to_ignore_on_load_unexpected = kind([*(unexpected or ()), f"^{PREFIX}"])

    def _process_model_after_weight_loading(self, model: Any, **_: object) -> Any:
        model.is_quantized = False  # of what transformers refuses to quantised models, all works
        finish(model, self.plan)
        allow_resizing(model)
        return model

    def _dequantize(self, model: Any, dtype: torch.dtype | str | None = None) -> Any:
        wide = getattr(torch, dtype) if isinstance(dtype, str) else dtype  # a saved config's is str
        places = module_places(model)
        for module in list(model.modules()):
            if isinstance(module, SparseLinear):
                put(as_dense(module).to(wide), places[id(module)])
        vars(model).pop("resize_token_embeddings", None)
        return model


def attach(model: Any, plan: ThresholdPlan, dtype: str, head: str | None, dense: str) -> None:
    """Let ``save_pretrained`` of a sparse model write it as it is."""
    config = SparseModelConfig(
        plan.description(), dtype, head, dense, format=FORMAT, version=versions()["sparsact"]
    )
    model.config.quantization_config = config
    model.hf_quantizer = SparseModelQuantizer(config)
    model.hf_quantizer.plan = copy.copy(plan)


def _plan(description: dict[str, Any], files: list[str]) -> ThresholdPlan:
    try:
        return ThresholdPlan.from_parts(description, plan_tensors([Path(file) for file in files]))
    except (ValueError, KeyError, TypeError, SafetensorError, OSError) as error:
        raise InputError(
            f"the checkpoint holds no plan that can be read, is it complete? "
            f"({type(error).__name__}: {error})"
        ) from error
