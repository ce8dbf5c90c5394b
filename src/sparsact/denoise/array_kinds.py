"""Tensors, NumPy arrays and lists of numbers: computed as tensors, and given back as they came."""

from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.denoise.files.file_content import cast
from sparsact.thresholds.arguments import widen

Array = Tensor | NDArray[Any] | list[Any]
Numbers = TypeVar("Numbers", Tensor, NDArray[Any], list[Any])  # in and out are of one kind

EXACT = 2**53  # float64 holds every integer up to this
NUMBERS = "uifc"  # NumPy's letters of integer, floating-point and complex dtypes


class ArrayKind:
    """The numbers of a user, and the way back to their kind.

    Floating-point tensors stay tensors with their gradient. All other numbers become arrays:
    8 and 16 bits are computed in float32, others in float64.

    Args:
        x: a tensor, an array (also a masked one) or nested lists.
        function: the name in messages.

    Raises:
        TypeError: `x` holds no numbers.
        InputError: lists of different lengths, or integers beyond ±2⁵³.
    """

    def __init__(self, x: Array, function: str) -> None:
        self.given = x
        self.function = function
        if isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex()):
            self.array: NDArray[Any] | None = None
        else:
            self.array = _array(x, function)

    def tensor(self) -> Tensor:
        """The numbers as a floating-point or complex tensor."""
        array, given = self.array, self.given
        if array is None:
            assert isinstance(given, Tensor)
            return given
        if array.dtype.kind == "c":
            wide: Any = np.complex64 if array.dtype.itemsize <= 8 else np.complex128
        else:
            wide = np.float32 if np.can_cast(array.dtype, np.float32) else np.float64
        tensor = torch.from_numpy(np.array(array, dtype=wide, order="C"))
        return tensor.to(given.device) if isinstance(given, Tensor) else tensor

    def real(self) -> Tensor:
        """The numbers as a tensor in float32 or float64."""
        tensor = self.tensor()
        if tensor.is_complex():
            raise TypeError(f"{self.function} expects real numbers, got {tensor.dtype}")
        return widen(tensor)

    def mask(self, mask: Array | None) -> Tensor | None:
        """True where a value is valid: by `mask`, and by that of a masked array."""
        valid = argument(np.asarray(mask)) if isinstance(mask, list) else argument(mask)
        hidden = getattr(self.given, "mask", None)
        if isinstance(self.given, np.ma.MaskedArray) and hidden is not np.ma.nomask:
            shown = torch.from_numpy(~np.asarray(hidden))
            valid = shown if valid is None else shown & valid
        result: Tensor | None = valid
        return result

    def restore(self, result: Tensor, missing: Tensor | None) -> Any:
        """`result` as the kind of the input, with the input itself where a value is missing."""
        given, array = self.given, self.array
        if array is None:
            assert isinstance(given, Tensor)
            result = result.to(given.dtype)
            return result if missing is None else torch.where(missing, given, result)
        restored = cast(result.detach().cpu().numpy(), array.dtype)
        if missing is not None:
            restored = np.where(missing.cpu().numpy(), array, restored)
        if isinstance(given, Tensor):
            return torch.from_numpy(restored).to(given.device)
        if isinstance(given, np.ma.MaskedArray):
            return np.ma.MaskedArray(restored, given.mask)
        return restored.tolist() if isinstance(given, list) else restored

    def statistic(self, values: Tensor) -> Any:
        """A real number per block, as the kind of the input."""
        if self.array is None:
            assert isinstance(self.given, Tensor)
            return values.to(self.given.dtype)
        if isinstance(self.given, Tensor):
            return values
        result: Any = values.detach().cpu().numpy()
        return result.tolist() if isinstance(self.given, list) else result


def argument(value: Any) -> Any:
    """An argument whose arrays are tensors: NumPy's numbers and arrays, also inside a list."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, (list, tuple)):
        return type(value)(argument(entry) for entry in value)
    return value


def _array(x: Any, function: str) -> NDArray[Any]:
    if isinstance(x, Tensor):
        array = x.detach().cpu().numpy()
    elif isinstance(x, np.ndarray):
        array = np.asarray(x)
    elif isinstance(x, list):
        try:
            array = np.asarray(x)
        except ValueError as error:
            raise InputError(f"{function} got lists of different lengths") from error
        array = array.astype(np.float64) if array.dtype.kind in "ui" else array
    else:
        raise TypeError(
            f"{function} expects a tensor, a NumPy array or lists, got {type(x).__name__}"
        )
    if array.dtype.kind not in NUMBERS:
        raise TypeError(
            f"{function} expects integer, floating-point or complex numbers, got {array.dtype}"
        )
    is_wide = array.dtype.kind in "ui" and array.dtype.itemsize == 8 and array.size > 0
    if is_wide and (int(array.max()) > EXACT or int(array.min()) < -EXACT):
        raise InputError(f"{function} takes integers up to ±2⁵³, got {array.max()}")
    return array
