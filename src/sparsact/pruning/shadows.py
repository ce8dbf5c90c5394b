"""Shadows: for every entry of a tensor, the unit that it belongs to and its constant value."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from sparsact.pruning.units import NO_UNIT, Units, uniform


class Shadow(NamedTuple):
    """What is known about the entries of one storage.

    Attributes:
        storage: the storage, kept alive so that no other takes its address.
        itemsize: bytes per entry.
        labels: the unit of each entry.
        values: the value that each entry has for every input of the model, or NaN.
    """

    storage: torch.UntypedStorage
    itemsize: int
    labels: Tensor
    values: Tensor


class WeightView(NamedTuple):
    """A matrix that is a parameter, its transpose, or some of its rows.

    Attributes:
        name: the parameter.
        transposed: whether the columns of the matrix are the rows of the parameter.
        start: the first row of the parameter.
        rows: the number of its rows.
    """

    name: str
    transposed: bool
    start: int
    rows: int


class Shadows:
    """The shadows of all tensors of one forward.

    A view shares the shadow of its base, so that views and changes in place need no rules.
    """

    def __init__(self, model: nn.Module, units: Units) -> None:
        self.units = units
        self._of: dict[int, Shadow] = {}
        self._held: dict[int, tuple[str, Tensor, bool]] = {}
        for name, tensor in model.named_parameters():
            self._held[address(tensor)] = name, tensor.detach(), True
        for name, buffer in model.named_buffers():
            self._held.setdefault(address(buffer), (name, buffer.detach(), False))
        self.from_input: set[int] = set()
        self._parts: dict[int, Tensor] = {}

    def held(self, tensor: Tensor) -> str | None:
        """The name of the whole parameter or buffer that this tensor is, in any shape."""
        name, whole, _ = self._held.get(address(tensor), (None, tensor, False))
        return name if tensor.numel() == whole.numel() else None

    def held_name(self, tensor: Tensor) -> str | None:
        """The name of the parameter or buffer of which this tensor is a view."""
        return self._held.get(address(tensor), (None,))[0]

    def weight_view(self, matrix: Tensor) -> WeightView | None:
        """The parameter of which a matrix is a view, if it is one."""
        name, whole, is_parameter = self._held.get(address(matrix), ("", matrix, False))
        if not is_parameter or whole.ndim != 2 or not whole.is_contiguous():
            return None
        offset = int(matrix.storage_offset()) - int(whole.storage_offset())
        start, rest = divmod(offset, whole.shape[1])
        for transposed, view in ((False, matrix), (True, matrix.T)):
            if rest == 0 and view.shape[1] == whole.shape[1] and view.stride() == whole.stride():
                return WeightView(name, transposed, start, view.shape[0])
        return None

    def labels(self, tensor: Tensor) -> Tensor:
        """The unit of each entry, in the shape of the tensor."""
        shadow = self._shadow(tensor)
        if shadow is None:
            return torch.zeros((), dtype=torch.long).expand(tensor.shape)
        return _like(shadow.labels, tensor)

    def values(self, tensor: Tensor) -> Tensor:
        """The constant of each entry or NaN, in the shape of the tensor."""
        shadow = self._shadow(tensor)
        if shadow is None:
            return torch.full((), torch.nan, dtype=torch.float64).expand(tensor.shape)
        held = self._held.get(address(tensor))
        values = _like(shadow.values, tensor)
        if held is not None and tensor.numel() < held[1].numel():
            return torch.full_like(values, torch.nan)  # which part it is may depend on the input
        return values

    def known(self, tensor: Tensor) -> bool:
        """Whether the tensor has a shadow."""
        return address(tensor) in self._of

    def set(self, tensor: Tensor, labels: Tensor | None, values: Tensor | None) -> None:
        """Write what is known about a tensor; None: no unit, no constant."""
        if address(tensor) == 0:
            return
        shadow = self._shadow(tensor)
        if shadow is None:
            shadow = self._of[address(tensor)] = _empty_shadow(tensor)
        _like(shadow.labels, tensor).copy_(torch.tensor(NO_UNIT) if labels is None else labels)
        known = torch.tensor(torch.nan) if values is None else values
        known = known.masked_fill(known.isinf(), torch.nan)
        _like(shadow.values, tensor).copy_(known)

    def mark_part(self, tensor: Tensor) -> None:
        """Note that a tensor is a view of a part of another one."""
        self._parts[id(tensor)] = tensor

    def is_part(self, tensor: Tensor) -> bool:
        """Whether a tensor is a view that may leave out entries at another size of the input."""
        return id(tensor) in self._parts

    def forget_values(self, tensor: Tensor) -> None:
        """Forget the constants of the whole storage of a tensor."""
        shadow = self._shadow(tensor)
        if shadow is not None:
            shadow.values.fill_(torch.nan)

    def depends_on_input(self, tensor: Tensor) -> bool:
        """Whether a tensor was computed from an input of the model."""
        return address(tensor) in self.from_input

    def mark_input(self, tensor: Tensor) -> None:
        """Note that a tensor depends on an input of the model."""
        if address(tensor) and address(tensor) not in self._held:
            self.from_input.add(address(tensor))
            if address(tensor) not in self._of:
                self._of[address(tensor)] = _empty_shadow(tensor)

    def _shadow(self, tensor: Tensor) -> Shadow | None:
        place = address(tensor)
        if place not in self._of and place in self._held:
            self._of[place] = self._of_held(*self._held[place])
        shadow = self._of.get(place)
        if shadow is not None and shadow.itemsize != tensor.element_size():
            self.units.fix(shadow.labels, "it is reinterpreted as another dtype")
            return None
        return shadow

    def _of_held(self, name: str, tensor: Tensor, is_parameter: bool) -> Shadow:
        """A parameter has a unit for each index of its one long dim, or of its channel dim."""
        shadow = _empty_shadow(tensor)
        if not tensor.is_floating_point():
            return shadow
        long_dim = None
        long = [dim for dim, size in enumerate(tensor.shape) if size > 1]
        if long:
            long_dim = long[0] if len(long) == 1 else 1 if tensor.ndim == 4 else tensor.ndim - 1
            shape = [-1 if d == long_dim else 1 for d in range(tensor.ndim)]
            labels = self.units.slot(name, long_dim, tensor.shape[long_dim]).reshape(shape)
            _like(shadow.labels, tensor).copy_(labels)
        if is_parameter:
            others = [d for d, size in enumerate(tensor.shape) if size > 1 and d != long_dim]
            # a part along another dim may depend on the input: only equal values are constants
            _like(shadow.values, tensor).copy_(uniform(tensor.cpu().double(), others))
        return shadow


def _empty_shadow(tensor: Tensor) -> Shadow:
    storage = tensor.untyped_storage()
    size = storage.nbytes() // tensor.element_size()
    labels = torch.full((size,), NO_UNIT)
    return Shadow(
        storage,
        tensor.element_size(),
        labels,
        torch.full((size,), torch.nan, dtype=torch.float64),
    )


def address(tensor: Tensor) -> int:
    """The address of the storage; 0 for a tensor that has none, such as a sparse one."""
    if tensor.layout != torch.strided:
        return 0
    return tensor.untyped_storage().data_ptr()


def _like(flat: Tensor, tensor: Tensor) -> Tensor:
    return flat.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
