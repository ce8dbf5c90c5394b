"""What compensation and tuning change in a model's parameters, stored apart from the model."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from sparsact.calibration.linear_layers import is_conv1d
from sparsact.calibration.offloaded import check_in_memory
from sparsact.hooks import Removable, version_of

_VALUE, _UP, _DOWN = "value.", "up.", "down."
_WRITTEN = "_sparsact_updated"  # set on modules, so that copies, which have the values, have it too


@dataclass(frozen=True)
class Updates:
    """New values of small parameters, and low-rank corrections to the weights of linear layers.

    Attributes:
        values: new values by the parameter's name.
        low_rank: by the name of a linear layer, U (out, rank) and D (rank, in): ``W + U·D``.
    """

    values: dict[str, Tensor] = field(default_factory=dict)
    low_rank: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.values or self.low_rank)

    def weight(self, name: str, linear: nn.Module) -> Tensor:
        """The updated weight of a linear layer, in its layout and dtype."""
        weight: Tensor = linear.weight.detach()  # type: ignore[operator]
        if name not in self.low_rank:
            return weight
        up, down = (factor.to(weight.device) for factor in self.low_rank[name])
        added = up.float() @ down.float()
        return (weight.float() + (added.t() if is_conv1d(linear) else added)).to(weight.dtype)

    def check(self, model: nn.Module) -> None:
        """Raise RuntimeError if the model contains a plan's updates: they would add up."""
        if self and any(_WRITTEN in vars(module) for module in model.modules()):
            raise RuntimeError(
                "a plan's updates are in the model already: remove that application first, "
                "and copy the model only afterwards"
            )

    def write(self, model: nn.Module, *, low_rank: bool = True) -> "Written":
        """Write them into a model; the returned handle restores the original values.

        Args:
            model: its parameters get new data but stay the same objects.
            low_rank: False leaves the weights of linear layers unchanged.
        """
        if self:
            check_in_memory(model, "a plan with updates")
        changes: list[tuple[nn.Module, str, Tensor]] = []
        for name, value in self.values.items():
            owner, _, own = name.rpartition(".")
            parameter = model.get_parameter(name)
            value = value.to(parameter.device, parameter.dtype, copy=True)
            changes.append((model.get_submodule(owner), own, value))
        for name in self.low_rank if low_rank else ():
            linear = model.get_submodule(name)
            changes.append((linear, "weight", self.weight(name, linear)))
        return Written(changes)

    def tensors(self) -> dict[str, Tensor]:
        """Everything by a name of its own, for a file."""
        tensors = {_VALUE + name: value for name, value in self.values.items()}
        for name, (up, down) in self.low_rank.items():
            tensors |= {_UP + name: up, _DOWN + name: down}
        return tensors

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Updates":
        """The updates that `tensors` returned; other names are ignored."""

        def with_prefix(prefix: str) -> dict[str, Tensor]:
            return {
                name.removeprefix(prefix): tensor
                for name, tensor in tensors.items()
                if name.startswith(prefix)
            }

        down = with_prefix(_DOWN)
        low_rank = {name: (up, down[name]) for name, up in with_prefix(_UP).items()}
        return cls(with_prefix(_VALUE), low_rank)


class Written(Removable):
    """Parameters that hold other values until `remove` is called."""

    def __init__(self, changes: Iterable[tuple[nn.Module, str, Tensor]]) -> None:
        self._originals: list[tuple[nn.Module, nn.Parameter, Tensor, int]] = []
        for module, name, value in changes:
            parameter = module.get_parameter(name)
            self._originals.append((module, parameter, parameter.data, version_of(parameter)))
            parameter.data = value
            vars(module)[_WRITTEN] = True

    def remove(self) -> None:
        """Restore the parameters' own values.

        Raises:
            RuntimeError: the parameters were trained or loaded meanwhile, and that is lost; their
                own values are restored first.
        """
        changed = any(
            version_of(parameter) != version for _, parameter, _, version in self._originals
        )
        for module, parameter, value, _ in reversed(self._originals):
            parameter.data = value
            vars(module).pop(_WRITTEN, None)
        self._originals.clear()
        if changed:
            raise RuntimeError(
                "parameters changed while the plan was applied (by an optimizer?). Their original "
                "values were restored. Train before you calibrate"
            )
