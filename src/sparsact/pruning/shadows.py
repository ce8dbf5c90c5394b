"""Shadows: for every entry of a tensor, the unit that it belongs to and its constant value."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from sparsact.pruning.units import NO_UNIT, Units


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
            self._held[_address(tensor)] = name, tensor.detach(), True
        for name, buffer in model.named_buffers():
            self._held.setdefault(_address(buffer), (name, buffer.detach(), False))
        self.from_input: set[int] = set()

    def held(self, tensor: Tensor) -> str | None:
        """The name of the whole parameter or buffer that this tensor is, in any shape."""
        name, whole, _ = self._held.get(_address(tensor), (None, tensor, False))
        return name if tensor.numel() == whole.numel() else None

    def held_name(self, tensor: Tensor) -> str | None:
        """The name of the parameter or buffer of which this tensor is a view."""
        return self._held.get(_address(tensor), (None,))[0]

    def weight_view(self, matrix: Tensor) -> WeightView | None:
        """The parameter of which a matrix is a view, if it is one."""
        name, whole, is_parameter = self._held.get(_address(matrix), ("", matrix, False))
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
        held = self._held.get(_address(tensor))
        values = _like(shadow.values, tensor)
        if held is not None and tensor.numel() < held[1].numel():
            return torch.full_like(values, torch.nan)  # which part it is may depend on the input
        return values

    def known(self, tensor: Tensor) -> bool:
        """Whether the tensor has a shadow."""
        return _address(tensor) in self._of

    def set(self, tensor: Tensor, labels: Tensor | None, values: Tensor | None) -> None:
        """Write what is known about a tensor; None: no unit, no constant."""
        if _address(tensor) == 0:
            return
        shadow = self._shadow(tensor)
        if shadow is None:
            shadow = self._of[_address(tensor)] = _empty_shadow(tensor)
        _like(shadow.labels, tensor).copy_(torch.tensor(NO_UNIT) if labels is None else labels)
        _like(shadow.values, tensor).copy_(torch.tensor(torch.nan) if values is None else values)

    def forget_values(self, tensor: Tensor) -> None:
        """Forget the constants of the whole storage of a tensor."""
        shadow = self._shadow(tensor)
        if shadow is not None:
            shadow.values.fill_(torch.nan)

    def depends_on_input(self, tensor: Tensor) -> bool:
        """Whether a tensor was computed from an input of the model."""
        return _address(tensor) in self.from_input

    def mark_input(self, tensor: Tensor) -> None:
        """Note that a tensor depends on an input of the model."""
        if _address(tensor) and _address(tensor) not in self._held:
            self.from_input.add(_address(tensor))
            if _address(tensor) not in self._of:
                self._of[_address(tensor)] = _empty_shadow(tensor)

    def _shadow(self, tensor: Tensor) -> Shadow | None:
        address = _address(tensor)
        if address not in self._of and address in self._held:
            self._of[address] = self._of_held(*self._held[address])
        shadow = self._of.get(address)
        if shadow is not None and shadow.itemsize != tensor.element_size():
            self.units.fix(shadow.labels, "it is reinterpreted as another dtype")
            return None
        return shadow

    def _of_held(self, name: str, tensor: Tensor, is_parameter: bool) -> Shadow:
        """A parameter has a unit for each index of its one long dim, or of its channel dim."""
        shadow = _empty_shadow(tensor)
        if not tensor.is_floating_point():
            return shadow
        long = [dim for dim, size in enumerate(tensor.shape) if size > 1]
        if long:
            dim = long[0] if len(long) == 1 else 1 if tensor.ndim == 4 else tensor.ndim - 1
            shape = [-1 if d == dim else 1 for d in range(tensor.ndim)]
            labels = self.units.slot(name, dim, tensor.shape[dim]).reshape(shape)
            _like(shadow.labels, tensor).copy_(labels)
        if is_parameter:
            _like(shadow.values, tensor).copy_(tensor)
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


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _like(flat: Tensor, tensor: Tensor) -> Tensor:
    return flat.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
