"""Every private name of another package that this one uses, and why.

A private name may disappear in any release. A test looks each up by its name; another reads the
source and fails where a private name is used that is not listed.
"""

from typing import NamedTuple


class PrivateName(NamedTuple):
    """One name.

    Attributes:
        name: its path. What follows ``()`` belongs to an instance.
        why: what it is used for.
        seen: the oldest and the newest version that has it, as far as the tests have run.
    """

    name: str
    why: str
    seen: tuple[str, str]


_TORCH, _TRANSFORMERS = ("2.8", "2.15"), ("5.0", "5.24")
_HOOKS = "copies of a hooked module leave its hooks out"
_TABLES = "a module is replaced, or shared parameters are found, under every name"
_STATE = "a sparse layer saves and loads the state of the dense one"
_MODES = "functions called in a forward are seen, but not those called in its children"
_VMAP = "a meter counts all examples of torch.func.vmap"
_UNITS = "units are followed through the operations of a forward"
_HEAD = "an output head with a weight of its own is not tied again"
_SAVED = "a saved sparse model is loaded by transformers' own functions"
_TREES = "tensors are found and replaced in nested outputs"

PRIVATE_NAMES = (
    PrivateName("torch._C._get_tracing_state", "values are not checked in a trace", _TORCH),
    PrivateName(
        "torch._C._functorch.is_functorch_wrapped_tensor",
        "values are not checked under vmap and grad of torch.func",
        _TORCH,
    ),
    PrivateName(
        "torch._C._functorch.peek_interpreter_stack",
        "straight-through gradients inside a compiled torch.func.grad",
        _TORCH,
    ),
    PrivateName(
        "torch.compiler.assume_constant_result()._dynamo_marked_constant",
        "importing the package does not load the compiler",
        _TORCH,
    ),
    PrivateName("torch._C._functorch.maybe_get_bdim", _VMAP, _TORCH),
    PrivateName("torch._C._functorch.get_unwrapped", _VMAP, _TORCH),
    PrivateName("torch._C._get_dispatch_mode", "values are not checked in a trace", _TORCH),
    PrivateName(
        "torch._C._TorchDispatchModeKey.PROXY", "values are not checked in a trace", _TORCH
    ),
    PrivateName(
        "torch.autograd.forward_ad._current_level",
        "functions have a jvp in forward mode only",
        _TORCH,
    ),
    PrivateName(
        "torch._C._current_graph_task_id", "a checkpoint's second forward is recognised", _TORCH
    ),
    PrivateName(
        "torch._dynamo.config.skip_fwd_side_effects_in_bwd_under_checkpoint",
        "a docstring names it: users set it",
        ("2.13", "2.15"),
    ),
    PrivateName("torch.nn.Module()._call_impl", "a call in a checkpoint is recognised", _TORCH),
    PrivateName("torch.overrides._get_current_function_mode_stack", _MODES, _TORCH),
    PrivateName("torch.overrides._pop_mode", _MODES, _TORCH),
    PrivateName("torch.overrides._push_mode", _MODES, _TORCH),
    PrivateName("torch.utils._pytree.tree_flatten", _TREES, _TORCH),
    PrivateName("torch.utils._pytree.tree_leaves", _TREES, _TORCH),
    PrivateName("torch.utils._pytree.tree_map", _TREES, _TORCH),
    PrivateName("torch.utils._pytree.tree_unflatten", _TREES, _TORCH),
    PrivateName("torch.utils._python_dispatch.TorchDispatchMode", _UNITS, _TORCH),
    PrivateName("torch.ops.aten.relu.default._schema", _UNITS, _TORCH),
    PrivateName("torch.Tensor()._version", "a tensor changed in place is not reused", _TORCH),
    PrivateName("torch.nn.Module()._modules", _TABLES, _TORCH),
    PrivateName("torch.nn.Module()._parameters", _TABLES, _TORCH),
    PrivateName("torch.nn.Module()._buffers", "a sparse layer reads them without delay", _TORCH),
    PrivateName("torch.nn.Module()._forward_hooks", _HOOKS, _TORCH),
    PrivateName("torch.nn.Module()._forward_hooks_with_kwargs", _HOOKS, _TORCH),
    PrivateName("torch.nn.Module()._forward_hooks_always_called", _HOOKS, _TORCH),
    PrivateName("torch.nn.Module()._forward_pre_hooks", _HOOKS, _TORCH),
    PrivateName("torch.nn.Module()._forward_pre_hooks_with_kwargs", _HOOKS, _TORCH),
    PrivateName("torch.nn.Module()._apply", "a sparse layer keeps its dtypes in `.to`", _TORCH),
    PrivateName("torch.nn.Module()._save_to_state_dict", _STATE, _TORCH),
    PrivateName("torch.nn.Module()._load_from_state_dict", _STATE, _TORCH),
    PrivateName("torch.nn.Module()._compiled_call_impl", "a compiled module is refused", _TORCH),
    PrivateName("torch.compile()._orig_mod", "a compiled module is refused", _TORCH),
    PrivateName("torch.nn.DataParallel()._is_replica", "a replica is refused", _TORCH),
    PrivateName("torch.nn.modules.conv._ConvNd", "convolutions of any dimension", _TORCH),
    PrivateName(
        "transformers.AutoModelForCausalLM._model_mapping",
        "a model that predicts no next token is refused before it is loaded",
        _TRANSFORMERS,
    ),
    PrivateName(
        "transformers.integrations.WandbCallback()._wandb",
        "histograms go to the trainer's run",
        _TRANSFORMERS,
    ),
    # marks on instances, `_is_hf_initialized` and `_weight_conversions`, cannot be looked up here;
    # the tests of saved models need them
    PrivateName("transformers.PreTrainedModel._tied_weights_keys", _HEAD, _TRANSFORMERS),
    PrivateName(
        "transformers.PreTrainedModel._keys_to_ignore_on_load_unexpected", _SAVED, _TRANSFORMERS
    ),
    PrivateName(
        "transformers.quantizers.HfQuantizer._process_model_before_weight_loading",
        _SAVED,
        _TRANSFORMERS,
    ),
    PrivateName(
        "transformers.quantizers.HfQuantizer._process_model_after_weight_loading",
        _SAVED,
        _TRANSFORMERS,
    ),
    PrivateName("transformers.quantizers.HfQuantizer._dequantize", _SAVED, _TRANSFORMERS),
    # not documented as public, though their names have no underscore
    PrivateName(
        "transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
        "a model that predicts no next token is refused before it is loaded",
        _TRANSFORMERS,
    ),
    PrivateName("transformers.pytorch_utils.Conv1D", "GPT-2's linear layers", _TRANSFORMERS),
    PrivateName("torch.ops.aten.softshrink", "one pass in float32 and float64", _TORCH),
    PrivateName("torch.ops.aten.hardshrink", "one pass", _TORCH),
    PrivateName("torch.ops.aten.threshold_backward", "faster than a mask and where", _TORCH),
)
