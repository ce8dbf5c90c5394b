"""Listing the activations of a model."""

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.hooks.activation_functions import is_seen_when_compiled, name_of_call
from sparsact.hooks.call_counter import SitePaths
from sparsact.hooks.call_kinds import (
    calls_functions,
    is_activation_module,
    is_known_activation,
    named_hookable_modules,
)
from sparsact.hooks.call_sites import CallSite, CallSites
from sparsact.hooks.channel_dims import ChannelDims
from sparsact.hooks.function_mode import FunctionMode
from sparsact.hooks.taps import Taps
from sparsact.hooks.tensors import first_tensor


def activations(model: nn.Module, example_input: Any) -> CallSites:
    """List the activations that a model computes, each place in its forward once.

    The model runs once on the example, in eval mode and without gradients; it does not change.
    A place is a call of an activation module, or of a function such as ``F.relu`` or
    ``Tensor.relu`` in the forward of a module. Its name selects it in
    :class:`sparsact.SparsityMeter`, :class:`sparsact.ActivationPenalty` and :func:`sparsact.swap`.

    Args:
        model: any module; parts that are compiled run without compilation here.
        example_input: the input of the model: a tensor, a tuple or list of positional inputs, or
            a mapping of keyword inputs.

    Returns:
        the sites, a sequence that prints as a table. Its ``remarks`` say which parts of the model
        hide their activations: TorchScript, and recurrent layers, whose kernels contain them.

    Raises:
        ValueError: the model does not run on the example.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> print(activations(model, torch.ones(3, 4) * 0))  # doctest: +SKIP
        name  activation  calls  shape  channel dim  channels  density
        1     ReLU            1  3 × 8           -1         8    0.500
    """
    return find_sites(model, example_input)


def find_sites(
    model: nn.Module, example_input: Any, others: Mapping[str, nn.Module] | None = None
) -> CallSites:
    """As :func:`activations`; the calls of the modules `others` are sites too."""
    recorder = _Recorder(model, others or {})
    with as_it_was(model), recorder.taps, recorder.mode:
        run(model, example_input)
    sites = list(recorder.sites())
    return CallSites(sites, [*_remarks(model), *_remarks_on_compiling(sites)])


def run(model: nn.Module, example_input: Any) -> Any:
    """Return the output of the model for an example; an error says that it does not run."""
    try:
        if isinstance(example_input, Mapping):
            return model(**example_input)
        if isinstance(example_input, (tuple, list)):
            return model(*example_input)
        return model(example_input)
    except Exception as error:
        raise InputError(
            f"the model does not run on example_input=: {type(error).__name__}: {error}"
        ) from error


@dataclass
class _Record:
    """What was seen of one site."""

    activation: str
    call: Callable[[Any], Any]
    channel_dim: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    seen_when_compiled: bool
    calls: int = 0
    entries: int = 0
    nonzero: float = 0

    def add(self, output: Tensor) -> None:
        self.calls += 1
        self.entries += output.numel()
        self.nonzero += math.nan if output.is_meta else int(torch.count_nonzero(output))

    def site(self, base: str, number: int) -> CallSite:
        return CallSite(
            base=base,
            number=number,
            activation=self.activation,
            calls=self.calls,
            shape=self.shape,
            dtype=self.dtype,
            channel_dim=self.channel_dim,
            seen_when_compiled=self.seen_when_compiled,
            density=self.nonzero / max(self.entries, 1),
            call=self.call,
        )


@dataclass
class _Frame:
    """A module that runs, and whether its own forward called an activation function."""

    name: str
    module: nn.Module
    activates: bool = False


class _Recorder:
    """Records the activations of one forward."""

    def __init__(self, model: nn.Module, others: Mapping[str, nn.Module]) -> None:
        self.mode = FunctionMode(self)
        self.taps = Taps({}, lambda name, x: None)
        self._records: dict[tuple[str, int], _Record] = {}
        self._numbers: dict[str, int] = {}
        self._running: list[_Frame] = []
        self._channel_dims = ChannelDims()
        self._paths = SitePaths(model)
        self._others = others
        for name, module in named_hookable_modules(model):
            self.taps.around(module, functools.partial(self._start, name), self._end)
            self.taps.replace_output(module, self._see_module)

    def sites(self) -> Iterator[CallSite]:
        """The sites, in the order of their first calls."""
        for (base, number), record in self._records.items():
            yield record.site(base, number)

    def call(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Compute a call of a function of torch, and record it if it is an activation."""
        output = function(*args, **kwargs)
        self._channel_dims.note(function, output)
        name = name_of_call(function, args, kwargs)
        if name is None or not self._running:
            return output
        frame = self._running[-1]
        if is_activation_module(frame.name, frame.module):
            frame.activates = True
        elif calls_functions(frame.name, frame.module):
            base = f"{frame.name}.{name}()" if frame.name else f"{name}()"
            call = _with_options(function, args, kwargs)
            shown = is_seen_when_compiled(function)
            self._record(base, name, call, first_tensor(output), shown)
        return output

    def _start(self, name: str, module: nn.Module, args: object, kwargs: object) -> None:
        for site in self._numbers:
            if self._paths.is_inside(site, module):
                self._numbers[site] = 0
        self._running.append(_Frame(name, module))

    def _end(self, module: nn.Module, args: object, output: object) -> None:
        self._ended = self._running.pop()

    def _see_module(self, module: nn.Module, args: object, kwargs: object, output: object) -> None:
        frame = self._ended
        if frame.activates or frame.name in self._others or is_known_activation(module):
            tensor = first_tensor(output)
            self._record(frame.name, type(module).__name__, module, tensor, True)

    def _record(
        self,
        base: str,
        activation: str,
        call: Callable[[Any], Any],
        output: Tensor | None,
        seen_when_compiled: bool,
    ) -> None:
        self._numbers[base] = self._numbers.get(base, 0) + 1
        if output is None:
            return
        key = base, self._numbers[base]
        if key not in self._records:
            channel_dim, shape = self._channel_dims.of(output), tuple(output.shape)
            self._records[key] = _Record(
                activation, call, channel_dim, shape, output.dtype, seen_when_compiled
            )
        self._records[key].add(output)


def _with_options(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Callable[[Any], Any]:
    """The function with the options of a call, as a callable of the input."""
    options = {name: value for name, value in kwargs.items() if name != "inplace"}
    if not args:
        options = {name: value for name, value in options.items() if name != "input"}
    rest = args[1:]
    return lambda x: function(x, *rest, **options)


@contextmanager
def as_it_was(model: nn.Module) -> Iterator[None]:
    """In this block, the model evaluates, in eager mode; then everything is as before."""
    training = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(), torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for module, mode in training:
            module.training = mode


def _remarks(model: nn.Module) -> Iterator[str]:
    """One line for each kind of part that hides its activations."""
    hidden: dict[str, list[str]] = {}
    for name, module in model.named_modules():
        reason = None
        if isinstance(module, torch.jit.ScriptModule):
            reason = "TorchScript hides what its modules call"
        elif isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
            reason = "recurrent layers compute tanh and sigmoid inside their kernels"
        if reason:
            hidden.setdefault(reason, []).append(repr(name) if name else "the model")
    for reason, names in hidden.items():
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        yield f"not seen: {shown} ({reason})"


def _remarks_on_compiling(sites: list[CallSite]) -> Iterator[str]:
    hidden = ", ".join(repr(site.name) for site in sites if not site.seen_when_compiled)
    if hidden:
        yield (
            f"not seen under torch.compile: {hidden} (an in-place function of the torch namespace; "
            "the method, as x.relu_(), is seen)"
        )
