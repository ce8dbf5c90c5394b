"""What tuning changes in a model's parameters, kept apart from the model."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from torch import Tensor, nn

from sparsact.calibration.sites import is_conv1d
from sparsact.hooks import Removable, version_of

_VALUE, _UP, _DOWN = "value.", "up.", "down."
_WRITTEN = "_sparsact_updated"  # an attribute of modules: a copy, which has the values, has it too


@dataclass(frozen=True)
class Updates:
    """New values of small parameters, and low-rank additions to the weights of linear layers.

    Attributes:
        values: what a parameter of that name becomes.
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
        """Raise RuntimeError where a plan's updates are in the model: they would add up."""
        if self and any(_WRITTEN in vars(module) for module in model.modules()):
            raise RuntimeError(
                "a plan's updates are in the model already: remove that application first, "
                "and copy the model after it"
            )

    def write(self, model: nn.Module, *, low_rank: bool = True) -> "Written":
        """Put them into a model; what is returned takes them out again.

        Args:
            model: whose parameters get new data; they stay the same objects.
            low_rank: False leaves the linear layers out.
        """
        new: list[tuple[nn.Module, str, Tensor]] = []
        for name, value in self.values.items():
            owner, _, own = name.rpartition(".")
            parameter = model.get_parameter(name)
            value = value.to(parameter.device, parameter.dtype, copy=True)
            new.append((model.get_submodule(owner), own, value))
        for name in self.low_rank if low_rank else ():
            linear = model.get_submodule(name)
            new.append((linear, "weight", self.weight(name, linear)))
        return Written(new)

    def tensors(self) -> dict[str, Tensor]:
        """All of it under names of its own, for a file."""
        found = {_VALUE + name: value for name, value in self.values.items()}
        for name, (up, down) in self.low_rank.items():
            found |= {_UP + name: up, _DOWN + name: down}
        return found

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "Updates":
        """What `tensors` gave; other names are left alone."""

        def named(prefix: str) -> dict[str, Tensor]:
            return {
                name.removeprefix(prefix): tensor
                for name, tensor in tensors.items()
                if name.startswith(prefix)
            }

        down = named(_DOWN)
        return cls(named(_VALUE), {name: (up, down[name]) for name, up in named(_UP).items()})


class Written(Removable):
    """Parameters that hold other values for a while."""

    def __init__(self, new: Iterable[tuple[nn.Module, str, Tensor]]) -> None:
        self._before: list[tuple[nn.Module, nn.Parameter, Tensor, int]] = []
        for module, name, value in new:
            parameter = module.get_parameter(name)
            self._before.append((module, parameter, parameter.data, version_of(parameter)))
            parameter.data = value
            vars(module)[_WRITTEN] = True

    def remove(self) -> None:
        """Give the parameters their own values back.

        Raises:
            RuntimeError: after that; they were trained or loaded meanwhile, and that is gone.
        """
        lost = any(version_of(parameter) != version for _, parameter, _, version in self._before)
        for module, parameter, value, _ in reversed(self._before):
            parameter.data = value
            vars(module).pop(_WRITTEN, None)
        self._before.clear()
        if lost:
            raise RuntimeError(
                "parameters that hold a plan's updates were changed while it was applied, as by an "
                "optimizer, and have their own values back: train first, and calibrate then"
            )
