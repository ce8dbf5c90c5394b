"""How a module holds λ and other levels: as numbers, parameters or buffers, known or not yet."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter, is_lazy

from sparsact._common.errors import InputError
from sparsact.thresholds.arguments import as_integer
from sparsact.thresholds.tracing import Unscriptable

Level = float | Tensor


class LevelModule(Unscriptable):
    """Abstract base: holds the levels that :attr:`level_names` lists.

    A learned level is a parameter of shape (num_parameters,), a fixed one a buffer of that shape,
    or a float if it is a single number. The state_dict has the parameters, the buffers, and the
    floats that came from data. A file that lacks fixed levels can be loaded too.

    With ``num_parameters=None`` learned levels are uninitialized, as in torch's lazy modules, until
    the first forward, ``init_from`` or ``load_state_dict`` shows their number. Fixed ones are
    floats until then.
    """

    level_names: ClassVar[tuple[str, ...]] = ("lambd",)
    _from_data: frozenset[str] = frozenset()
    _start: dict[str, float]

    def __init__(self, learnable: bool, num_parameters: int | None, channel_dim: int) -> None:
        super().__init__()
        self.learnable = learnable
        self.num_parameters: Any = None
        if num_parameters is None:
            self._start = {}
            self._initialize_hook = None  # torch.compile looks for it, then infers the parameters
        else:
            self.num_parameters = as_integer(num_parameters, "num_parameters")
            if self.num_parameters < 1:
                raise InputError(f"num_parameters= must be at least 1, got {num_parameters}")
        self.channel_dim = as_integer(channel_dim, "channel_dim")

    def _hold(self, name: str, value: Level) -> None:
        """Hold a level: a parameter, a buffer or, if fixed and single, a float."""
        n = self.num_parameters
        shapes = {()} if n is None else {(), (n,)}
        if isinstance(value, Tensor) and tuple(value.shape) not in shapes:
            raise InputError(
                f"{name}= of shape {tuple(value.shape)} does not match num_parameters={n}"
            )
        if n is None:
            self._start[name] = float(value)
            held: Any = UninitializedParameter() if self.learnable else float(value)
            setattr(self, name, held)
        elif self.learnable:
            self.register_parameter(name, nn.Parameter(_vector(value, n)))
        elif isinstance(value, Tensor) or n > 1:
            self.register_buffer(name, _vector(value, n))
        else:
            setattr(self, name, float(value))

    def hold_as_tensors(self, device: torch.device | None = None) -> None:
        """Hold fixed levels that are floats as buffers, which can change without a new program.

        Raises:
            ValueError: the number of levels is not known yet.
        """
        if self.num_parameters is None:
            raise InputError("num_parameters=None: run one forward first, which finds the number")
        for name in self.level_names:
            value = getattr(self, name)
            if not isinstance(value, Tensor):
                delattr(self, name)
                self.register_buffer(name, torch.full((1,), float(value), device=device))
        self._from_data = frozenset()

    def _set(self, name: str, value: Tensor) -> None:
        """Change a held level in place, to a value that came from data."""
        held = getattr(self, name)
        if isinstance(held, Tensor):
            held.copy_(value.expand_as(held))
        else:
            setattr(self, name, float(value))
            self._from_data = self._from_data | {name}

    def _level_shape(self, x: Tensor) -> tuple[int, ...]:
        """The shape to which the levels broadcast for an input `x`."""
        return tuple(x.shape)

    def _infer_parameters(self, module: Any, args: Any, kwargs: Any = None) -> None:
        """Find the number of channels in an input; also called by ``torch.compile``."""
        if torch.compiler.is_compiling():
            raise InputError("num_parameters=None: run one forward before torch.compile")
        x = args[0] if args else kwargs["x"]
        shape = self._level_shape(x)
        self._check_channel_dim(shape)
        self._initialize(shape[self.channel_dim])

    @torch.no_grad()
    def _initialize(self, n: int) -> None:
        """Give all uninitialized levels their start values, one per channel."""
        for name, value in self._start.items():
            level: Any = getattr(self, name)
            if self.learnable:
                level.materialize((n,))
                level.fill_(value)
            else:
                delattr(self, name)
                self.register_buffer(name, _vector(value, n))
        self.num_parameters = n
        del self._start, self._initialize_hook

    def _check_channel_dim(self, shape: tuple[int, ...]) -> None:
        if not -len(shape) <= self.channel_dim < len(shape):
            raise InputError(
                f"channel_dim={self.channel_dim} does not exist in an input of shape {shape}"
            )

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        if self.num_parameters is None:
            tensors: dict[str, Any] = self._parameters
            for name, value in tensors.items():
                plain = keep_vars or is_lazy(value)  # an uninitialized tensor has no detach
                destination[prefix + name] = value if plain else value.detach()
            return
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name in self._from_data:
            destination[prefix + name] = torch.tensor([getattr(self, name)], dtype=torch.float64)

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        for name in self.level_names:
            value, held = state_dict.get(prefix + name), getattr(self, name)
            if value is None:
                continue
            if self.num_parameters is None and name in self._start and not is_lazy(value):
                self._initialize(value.numel())
            elif not isinstance(held, Tensor) and value.numel() == 1:
                self._set(name, value.abs())
                state_dict.pop(prefix + name)
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        # files of version 0.1 lack them
        fixed = {prefix + name for name in self.level_names if name in self._buffers}
        missing_keys[:] = [key for key in missing_keys if key not in fixed]


def _vector(value: Level, n: int) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach().clone().expand(n).contiguous()
    return torch.full((n,), float(value))
