"""Hooks that pass the tensors of selected modules to a callback, and are removed together."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.hooks import RemovableHandle

from sparsact._common.errors import InputError
from sparsact.hooks.copies import CopyWithoutTaps
from sparsact.hooks.tensors import first_tensor

Site = Literal["input", "output"]
TapCallback = Callable[[str, Tensor], Tensor | None]
InputsCallback = Callable[[str, tuple[Any, ...], dict[str, Any]], None]
CallCallback = Callable[[str, Tensor, Tensor], Tensor | None]
Self = TypeVar("Self")  # typing.Self from Python 3.11 on

_DATA_PARALLEL = (
    "nn.DataParallel runs copies of the model in threads, which would mix or lose their "
    "activations; use torch.nn.parallel.DistributedDataParallel"
)


class Removable(ABC):
    """Something that has hooks on a model until `remove` is called or its ``with`` block ends."""

    @abstractmethod
    def remove(self) -> None:
        """Remove the hooks."""

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


class Taps(Removable):
    """Hooks that pass one tensor of each module to a callback; removed together.

    Copies of a tapped module, made by ``copy.deepcopy`` or pickling, carry no tap.

    Args:
        modules: name → module.
        callback: called with the name and the tensor; if it returns a tensor, this replaces the
            original.
        on: ``"output"`` or ``"input"``.
        select: chooses the tensor; called with the module's output, or with its positional and
            keyword inputs. By default the first tensor is chosen.
        takes_complex: whether the callback can handle complex tensors.

    Raises:
        TypeError: in a forward, if there is no floating-point tensor, or no complex one where
            these are taken.
        RuntimeError: in a forward of a copy made by ``nn.DataParallel``.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        callback: TapCallback,
        on: Site = "output",
        select: Callable[..., Tensor] | None = None,
        *,
        takes_complex: bool = False,
    ) -> None:
        if on not in ("input", "output"):
            raise InputError(f"on must be 'input' or 'output', got {on!r}")
        self._held: list[tuple[nn.Module, RemovableHandle]] = []
        for name, module in modules.items():
            if on == "output":
                handle = module.register_forward_hook(
                    _output_hook(name, callback, select, takes_complex)
                )
            else:
                hook = _input_hook(name, callback, select, takes_complex)
                handle = module.register_forward_pre_hook(hook, with_kwargs=True)
            self._hold(module, handle)

    def around(
        self, module: nn.Module, start: Callable[..., None], end: Callable[..., None]
    ) -> None:
        """Call `start` before the forward of `module` and all other taps, and `end` after it.

        `start` gets the module, its positional and its keyword inputs. `end` gets the module, the
        inputs and the output; it is called even if the forward fails.
        """
        for handle in around_forward(module, start, end):
            self._hold(module, handle)

    def replace_output(
        self, module: nn.Module, replace: Callable[..., Any], *, first: bool = False
    ) -> None:
        """Call `replace` after the forward of `module`, and after its other hooks unless `first`.

        `replace` gets the module, its positional and its keyword inputs, and the output; it
        returns another output, or None.
        """
        handle = module.register_forward_hook(replace, with_kwargs=True, prepend=first)
        self._hold(module, handle)

    def lost(self) -> set[nn.Module]:
        """Return the modules from which other code has removed a hook."""
        return {
            module
            for module, handle in self._held
            if handle.id not in module._forward_hooks and handle.id not in module._forward_pre_hooks
        }

    @property
    def modules(self) -> set[nn.Module]:
        """The modules that have a hook."""
        return {module for module, _ in self._held}

    @classmethod
    def on_calls(cls, modules: Mapping[str, nn.Module], callback: CallCallback) -> "Taps":
        """Make taps that pass the input and the output of each call to a callback.

        Args:
            modules: name → module.
            callback: called with the name, the first positional input and the output; if it
                returns a tensor, this replaces the output.
        """
        taps = cls({}, lambda name, x: None)
        for name, module in modules.items():
            taps._hold(module, module.register_forward_hook(_call_hook(name, callback)))
        return taps

    @classmethod
    def on_inputs(cls, modules: Mapping[str, nn.Module], callback: InputsCallback) -> "Taps":
        """Make taps that pass all inputs of each call to a callback.

        Args:
            modules: name → module.
            callback: called with the name, the positional and the keyword inputs.
        """
        taps = cls({}, lambda name, x: None)
        for name, module in modules.items():
            hook = _all_inputs_hook(name, callback)
            taps._hold(module, module.register_forward_pre_hook(hook, with_kwargs=True))
        return taps

    def remove(self) -> None:
        """Remove all hooks; a second call does nothing."""
        for module, handle in self._held:
            handle.remove()
            CopyWithoutTaps.of(module).forget(handle.id)
        self._held.clear()

    def _hold(self, module: nn.Module, handle: RemovableHandle) -> None:
        self._held.append((module, handle))
        CopyWithoutTaps.of(module).ids.add(handle.id)


def around_forward(
    module: nn.Module, start: Callable[..., None], end: Callable[..., None]
) -> tuple[RemovableHandle, RemovableHandle]:
    """Call `start` before and `end` after each forward; copies of `module` keep the hooks.

    The hooks of :meth:`Taps.around` are left out of copies.
    """
    before = module.register_forward_pre_hook(start, prepend=True, with_kwargs=True)
    hooks = module._forward_pre_hooks
    in_order = list(hooks.items())  # torch.compile, up to 2.10 at least, reads them as inserted
    hooks.clear()
    hooks.update(in_order)
    return before, module.register_forward_hook(end, always_call=True)


def check_hookable(model: nn.Module) -> None:
    """Raise RuntimeError if hooks would be ignored or would run on copies.

    A compiled module ignores hooks that are installed later; ``nn.DataParallel`` runs copies of
    the model in threads.
    """
    for name, module in model.named_modules():
        if "_orig_mod" in module._modules or module._compiled_call_impl is not None:
            raise RuntimeError(
                f"module {name!r} is compiled already, and torch.compile ignores hooks that are "
                "installed later: install the hooks first, then compile the model"
            )
        if isinstance(module, nn.DataParallel):
            raise RuntimeError(_DATA_PARALLEL)


def _output_hook(
    name: str,
    callback: TapCallback,
    select: Callable[..., Tensor] | None,
    takes_complex: bool,
) -> Callable[..., Any]:
    def hook(module: nn.Module, args: object, output: object) -> Any:
        check_not_replica(module)
        tensor = passed_tensor(name, "output", output, select, takes_complex)
        new = callback(name, tensor)
        return None if new is None else _replace(name, output, tensor, new)

    return hook


def _all_inputs_hook(name: str, callback: InputsCallback) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        check_not_replica(module)
        callback(name, args, kwargs)

    return hook


def _call_hook(name: str, callback: CallCallback) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[object, ...], output: object) -> Any:
        check_not_replica(module)
        x = _require_tensor(name, "input", first_tensor(args), args)
        return callback(name, x, _require_tensor(name, "output", output, output))

    return hook


def _input_hook(
    name: str,
    callback: TapCallback,
    select: Callable[..., Tensor] | None,
    takes_complex: bool,
) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> Any:
        check_not_replica(module)
        inputs = (args, kwargs)
        tensor = passed_tensor(name, "input", inputs, select, takes_complex)
        new = callback(name, tensor)
        return None if new is None else _replace(name, inputs, tensor, new)

    return hook


def passed_tensor(
    name: str,
    site: Site,
    value: Any,
    select: Callable[..., Tensor] | None,
    takes_complex: bool,
) -> Tensor:
    """Return the tensor that a callback gets.

    Args:
        name: the name of the module or call, for errors.
        site: ``"input"`` or ``"output"``.
        value: the output, or the pair of positional and keyword inputs.
        select: chooses the tensor; None chooses the first.
        takes_complex: whether it may be complex.
    """
    if select is None:
        chosen = first_tensor(value)
    else:
        chosen = select(value) if site == "output" else select(*value[0], **value[1])
    return _require_tensor(name, site, chosen, value, takes_complex)


def check_not_replica(module: nn.Module) -> None:
    """Raise RuntimeError in a forward of a copy made by ``nn.DataParallel``."""
    if getattr(module, "_is_replica", False):
        raise RuntimeError(_DATA_PARALLEL)


def _require_tensor(
    name: str, site: Site, tensor: object, source: object, takes_complex: bool = False
) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"the {site} of {name!r} contains no tensor: {type(source).__name__}")
    if not (tensor.is_floating_point() or (takes_complex and tensor.is_complex())):
        raise TypeError(f"the {site} of {name!r} must be floating point, got {tensor.dtype}")
    return tensor


def _replace(name: str, value: object, old: Tensor, new: Tensor) -> Any:
    """Replace `old` by `new` in `value`, a tensor or nested containers."""
    if value is old:
        return new
    leaves, layout = tree_flatten(value)
    if not any(leaf is old for leaf in leaves):
        raise TypeError(
            f"the tensor of {name!r} cannot be replaced inside {type(value).__name__}: either "
            "torch.utils._pytree does not support this container, or select= made a new tensor"
        )
    return tree_unflatten([new if leaf is old else leaf for leaf in leaves], layout)
