"""Replacing activations of a model in place: modules, single calls, and functions."""

import functools
import inspect
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from torch import nn

from sparsact._common.errors import InputError
from sparsact.hooks.activations import as_it_was, find_sites, run
from sparsact.hooks.call_patterns import CallPattern, CallSelector, call_patterns
from sparsact.hooks.call_sites import CallSite
from sparsact.hooks.fast_path import leave_fast_path
from sparsact.hooks.function_swap import EachCall, FunctionSwap, join_function_swaps
from sparsact.hooks.missing_calls import explain_missing

Factory = Callable[[Any], nn.Module] | Callable[[Any, CallSite], nn.Module]


def swap(
    model: nn.Module,
    selector: CallSelector | Iterable[CallSelector],
    factory: Factory,
    *,
    example_input: Any = None,
) -> dict[str, nn.Module]:
    """Replace the selected activations of `model` in place.

    Without an example, modules are replaced; a module that is called several times is replaced by
    one module. With an example, calls are replaced, also those of functions such as ``F.relu``:
    each call of a module or function within one forward of the modules around it gets its own
    replacement. The replacement of a function becomes a child of the module in whose forward the
    function is called, under the function's name, so it has parameters, state and copies.

    The replacement is computed in every mode: in training, in eval mode, where torch's fast path
    through transformer encoders is switched off, compiled, and exported. An operation that writes
    into its input still does so.

    Args:
        model: the model; it is changed. Swap before ``torch.compile``.
        selector: selects modules or calls, as in :data:`sparsact.hooks.CallSelector`; or several.
        factory: called with the old module, or with the old function as a callable; if it takes
            two arguments, then also with the :class:`~sparsact.CallSite`, which knows the name,
            the number of channels and their dim. It returns the new module, which takes over the
            training or eval mode.
        example_input: an input of the model, as for :func:`sparsact.activations`. The model runs
            on it before and after, in eval mode.

    Returns:
        name → new module, by the names of the modules or call sites.

    Raises:
        ValueError: a selector matches nothing; the model itself matches (it has no parent module);
            a selected module is never called, such as ``out_proj`` of ``nn.MultiheadAttention``;
            the model does not run on the example, before or after. The model is then unchanged.
        TypeError: `factory` does not return a module.

    Example:
        >>> import sparsact as sa
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> swap(model, nn.ReLU, lambda old: sa.nn.JumpReLU(0.1))
        {'1': JumpReLU(lambd=0.1)}
        >>> class Net(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.hidden = nn.Linear(4, 8)
        ...
        ...     def forward(self, x):
        ...         return torch.relu(self.hidden(x))
        >>> def per_channel(old, site):
        ...     return sa.nn.Softshrink(
        ...         0.1, num_parameters=site.channels, channel_dim=site.channel_dim
        ...     )
        >>> swap(Net(), torch.relu, per_channel, example_input=torch.ones(2, 4))
        {'relu()': Softshrink(lambd=0.1, num_parameters=8, channel_dim=-1)}
    """
    patterns = call_patterns(model, selector)
    for pattern in patterns:
        if "" in pattern.modules:
            raise InputError(
                f"{pattern.text} matches the model itself, which has no parent to hold its "
                "replacement; wrap it in nn.Sequential"
            )
    if example_input is None:
        return _swap_modules(model, patterns, factory)
    return _swap_calls(model, patterns, factory, example_input)


def _swap_modules(
    model: nn.Module, patterns: list[CallPattern], factory: Factory
) -> dict[str, nn.Module]:
    for pattern in patterns:
        if pattern.functions or pattern.number is not None:
            raise InputError(
                f"{pattern.text} selects single calls, which are found by running the model: pass "
                "example_input="
            )
    if _takes_site(factory):
        raise InputError(
            "factory= takes the call site, which needs an example: pass example_input="
        )
    names = {module: name for pattern in patterns for name, module in pattern.modules.items()}
    selected = {name: module for module, name in names.items()}  # each module once
    for name in selected:
        _check_is_called(model, name)
    new = {name: _made(factory, old, None, old) for name, old in selected.items()}
    changes = _Changes(model)
    for name, old in selected.items():
        changes.replace_module(old, new[name])
    return new


def _swap_calls(
    model: nn.Module, patterns: list[CallPattern], factory: Factory, example_input: Any
) -> dict[str, nn.Module]:
    first_names = {module: name for name, module in model.named_modules()}
    patterns = [  # sites have the first of a module's names
        replace(
            pattern,
            modules={first_names[module]: module for module in pattern.modules.values()},
        )
        for pattern in patterns
    ]
    modules_selected = {name: m for pattern in patterns for name, m in pattern.modules.items()}
    found = find_sites(model, example_input, modules_selected)
    for pattern in patterns:
        if not any(_selects(pattern, site) for site in found):
            named = ", ".join(repr(site.name) for site in found[:8]) or "there are none"
            reasons = explain_missing(model, [pattern])
            raise InputError(
                f"no call matches {pattern.text}{reasons}; the first calls are {named}"
            )
    selected = [site for site in found if any(_selects(pattern, site) for pattern in patterns)]
    modules = dict(model.named_modules())
    new = {
        site: _made(factory, site.call, site, _owner_of(modules, site.base)) for site in selected
    }
    changes = _Changes(model)
    try:
        for base in dict.fromkeys(site.base for site in selected):
            own = {site.number: new[site] for site in selected if site.base == base}
            all_selected = sum(site.base == base for site in found) == len(own)
            changes.replace_calls(base, own, all_selected)
        changes.replace_functions([site for site in selected if not site.seen_when_compiled])
        _check_run(model, {site.name: module for site, module in new.items()}, example_input)
    except BaseException:
        changes.undo()
        raise
    return {site.name: module for site, module in new.items()}


class _Changes:
    """Changes of a model that can be undone."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.modules = dict(model.named_modules())
        self._undo: list[Callable[[], object]] = []
        self._functions: dict[str, dict[str, str]] = {}

    def undo(self) -> None:
        for undo in reversed(self._undo):
            undo()

    def replace_module(self, old: nn.Module, new: nn.Module) -> None:
        """Put `new` in the place of `old`, under all its names."""
        for name, module in list(self.model.named_modules(remove_duplicate=False)):
            if module is old:
                parent, _, child = name.rpartition(".")
                self._set(self.model.get_submodule(parent), child, new)
        join_function_swaps(old, new)
        self._leave_fast_path(new)

    def replace_calls(self, base: str, new: dict[int, nn.Module], all_selected: bool) -> None:
        """Put new modules, by the numbers of the calls, in the place of a module or function."""
        old = None if base.endswith("()") else self.modules[base]
        if all_selected and list(new) == [1]:
            replacement = new[1]
        else:
            replacement = EachCall(base, new, old, keeps_others=not all_selected)
            replacement.train(_owner_of(self.modules, base).training)
            handles = replacement.install(self.model)
            self._undo += [handle.remove for handle in handles]
        if old is not None:
            self.replace_module(old, replacement)
        else:
            self._add_child(base, replacement)

    def replace_functions(self, hidden: list[CallSite]) -> None:
        """Call the added children in place of the functions; compiling hides some of the calls."""
        for name, children in self._functions.items():
            names = [site.name for site in hidden if site.base in children]
            swap = FunctionSwap(self.modules[name], name, children, names)
            self._undo += [handle.remove for handle in swap.install()]

    def _add_child(self, base: str, new: nn.Module) -> None:
        name, _, function = base.rpartition(".")
        owner, child = self.modules[name], function.removesuffix("()")
        while hasattr(owner, child):
            child += "_call"
        owner.add_module(child, new)
        self._undo.append(functools.partial(delattr, owner, child))
        self._functions.setdefault(name, {})[base] = child
        join_function_swaps(owner, new)
        self._leave_fast_path(owner)

    def _leave_fast_path(self, changed: nn.Module) -> None:
        for encoder, attribute, before in leave_fast_path(self.model, changed):
            self._undo.append(functools.partial(setattr, encoder, attribute, before))

    def _set(self, parent: nn.Module, child: str, new: nn.Module) -> None:
        before = getattr(parent, child)
        setattr(parent, child, new)
        self._undo.append(functools.partial(setattr, parent, child, before))


def _made(factory: Any, old: Any, site: CallSite | None, owner: nn.Module) -> nn.Module:
    new = factory(old, site) if _takes_site(factory) else factory(old)
    if not isinstance(new, nn.Module):
        raise TypeError(f"factory must return a module, got {type(new).__name__}")
    return new.train(owner.training)


def _takes_site(factory: Factory) -> bool:
    """Whether a factory has two positional arguments without a default."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except ValueError:  # a builtin without a signature
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [p for p in parameters if p.kind in positional and p.default is p.empty]
    return len(required) >= 2


def _selects(pattern: CallPattern, site: CallSite) -> bool:
    if pattern.number not in (None, site.number):
        return False
    return site.base in pattern.modules or site.base in pattern.functions


def _owner_of(modules: dict[str, nn.Module], base: str) -> nn.Module:
    """The called module, or the module in whose forward the function is called."""
    return modules[base.rpartition(".")[0] if base.endswith("()") else base]


def _check_is_called(model: nn.Module, name: str) -> None:
    """Raise if torch reads the weights of a module instead of calling it."""
    if isinstance(model.get_submodule(name.rpartition(".")[0]), nn.MultiheadAttention):
        raise InputError(
            f"{name!r} is never called: nn.MultiheadAttention uses its weight directly, so a "
            "replacement would have no effect"
        )


def _check_run(model: nn.Module, new: dict[str, nn.Module], example_input: Any) -> None:
    """Run the changed model; raise if it fails, or if a replacement is not called."""
    ran: set[nn.Module] = set()
    handles = [
        module.register_forward_hook(lambda module, args, output: ran.add(module))
        for module in new.values()
    ]
    try:
        with as_it_was(model):
            run(model, example_input)
    finally:
        for handle in handles:
            handle.remove()
    missing = [name for name, module in new.items() if module not in ran]
    if missing:
        raise InputError(
            f"the replacement of {', '.join(map(repr, missing))} is not called: its place in the "
            "model cannot be reached. The model is unchanged"
        )
