"""A second device made of Python: it refuses to mix tensors, and counts what the host waits for.

Its tensors say that they are on `DEVICE` and hold their values in a tensor on the CPU. As on a
GPU, an operation on tensors of both devices raises, results stay where the inputs are, and only
`.to`, `.cpu` and `copy_` move values. Unlike on a GPU, indexing with a tensor of the CPU raises
too, because there it moves the index silently.
"""

import contextlib
from collections import Counter
from importlib import import_module
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

from sparsact._common import devices
from sparsact.calibration import linear_layers

DEVICE = torch.device("lazy:0")
"""A device type that torch names and this library does not. Autograd runs it in the host's thread,
so that the device needs no C++."""

_TorchGenerator = torch.Generator
_WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "unique_dim"}
_WAITS |= {"unique_consecutive", "bincount", "histc", "_linalg_check_errors"}
_TAKE_A_SCALAR = {"masked_fill", "masked_fill_", "fill_", "index_put_", "where", "index_fill_"}


class MixedDevicesError(RuntimeError):
    """An operation got tensors of both devices."""


class DeviceTensor(Tensor):
    """A tensor on `DEVICE`, whose values are in `held`."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "DeviceTensor":
        options = {"dtype": held.dtype, "layout": held.layout, "device": DEVICE}
        if held.layout == torch.strided:
            options |= {"strides": held.stride(), "storage_offset": held.storage_offset()}
        with torch.inference_mode(False):
            tensor = Tensor._make_wrapper_subclass(cls, held.shape, **options)
        tensor.held = held
        return tensor

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise MixedDevicesError(f"{func} outside a block of SecondDevice")

    def tolist(self) -> Any:
        """torch refuses it for subclasses; on a GPU it waits."""
        return self.cpu().tolist()

    def data_ptr(self) -> int:
        """Tells apart tensors of different memory, as on a GPU."""
        return self.held.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.held.untyped_storage()

    @property
    def data(self) -> Tensor:
        """As on a GPU, it can be exchanged; torch would exchange the outside only."""
        return self.detach()

    @data.setter
    def data(self, value: "DeviceTensor") -> None:
        if value.shape != self.shape or value.dtype != self.dtype:
            raise NotImplementedError("data of another shape or dtype")
        self.held = value.held

    def __repr__(self) -> str:
        return f"DeviceTensor({self.held})"


class DeviceGenerator(torch.Generator):
    """A generator on `DEVICE`, known by its seed: the CPU's uses 32 bits of it."""

    MARK = 0x5EC0

    def manual_seed(self, seed: int) -> "DeviceGenerator":
        super().manual_seed((self.MARK << 32) + seed % 2**32)
        return self


class SecondDevice(TorchDispatchMode):
    """In this block `DEVICE` exists.

    Args:
        has_float64: False raises where a tensor of that dtype is made on it, as on Apple's GPUs.

    Attributes:
        waits: how often each operation made the host wait for the device.
    """

    def __init__(self, has_float64: bool = True) -> None:
        super().__init__()
        self.has_float64 = has_float64
        self.waits: Counter[str] = Counter()
        self._depth = 0
        self._patches = contextlib.ExitStack()

    def __enter__(self) -> "SecondDevice":
        if self._depth:
            self._depth += 1
            return super().__enter__()
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(…, device=) calls .to here
        optimizer = import_module("torch.optim.optimizer")
        patches = [
            (torch, "autocast", _autocast),
            (torch, "Generator", _GeneratorOfBoth),
            (torch.accelerator, "synchronize", lambda device=None: None),
            (optimizer, "_get_fused_kernels_supported_devices", lambda: ["cpu", DEVICE.type]),
            (linear_layers, "_is_quantised", lambda module: False),  # it would go by the class
        ]
        if not self.has_float64:
            patches.append((devices, "WITHOUT_FLOAT64", {DEVICE.type}))
        for owner, name, own in patches:
            self._patches.enter_context(mock.patch.object(owner, name, own))
        self._depth = 1
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._depth -= 1
        if self._depth:
            return
        self._patches.close()
        torch._C._set_only_lift_cpu_tensors(False)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        own = [leaf for leaf in leaves if isinstance(leaf, DeviceTensor)]
        devices = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.device)]
        to_own = devices[0].type == DEVICE.type if devices else bool(own)
        if not own and not to_own:
            return func(*args, **kwargs)
        with self:  # in inference mode, operations arrive that torch takes apart
            parts = func.decompose(*args, **kwargs)
        if parts is not NotImplemented:
            return parts
        self._count(func, kwargs, bool(own), to_own, leaves)
        _refuse_mixture(func, args, kwargs, leaves, own)
        if func.namespace == "sparsact":  # what torch runs for another device than the CPU
            with self:
                return func.redispatch(
                    torch._C.DispatchKeySet(torch._C.DispatchKey.Lazy), *args, **kwargs
                )
        result = func(*tree_map(_held, args), **tree_map(_held, kwargs))
        if not to_own:
            return result.clone() if any(result is leaf.held for leaf in own) else result
        if not self.has_float64 and any(
            leaf.dtype == torch.float64 for leaf in tree_leaves(result) if isinstance(leaf, Tensor)
        ):
            raise TypeError(f"{func}: {DEVICE} has no float64")
        known = {id(leaf.held): leaf for leaf in own}
        return tree_map_only(
            Tensor, lambda t: known[id(t)] if id(t) in known else DeviceTensor(t), result
        )

    def _count(self, func, kwargs, from_own, to_own, leaves) -> None:
        name = func.overloadpacket.__name__
        moved = name == "_to_copy" and from_own != to_own
        moved |= name == "copy_" and not all(isinstance(leaf, DeviceTensor) for leaf in leaves)
        masks = name in ("index", "index_put_", "index_put", "_index_put_impl_") and any(
            leaf.dtype in (torch.bool, torch.uint8) for leaf in leaves[1:]
        )
        sizes = name == "repeat_interleave" and kwargs.get("output_size") is None
        if moved or masks or sizes or name in _WAITS:
            self.waits[name] += 1


def _refuse_mixture(func, args, kwargs, leaves, own) -> None:
    name = func.overloadpacket.__name__
    generator = kwargs.get("generator")
    if generator is not None and generator.initial_seed() >> 32 != DeviceGenerator.MARK:
        raise MixedDevicesError(f"{func}: a generator of the CPU for a tensor on {DEVICE}")
    if name in ("copy_", "_to_copy") or len(own) == len(leaves):
        return
    scalars = torch.Tag.pointwise in func.tags or name in _TAKE_A_SCALAR
    others = [leaf for leaf in leaves if not isinstance(leaf, DeviceTensor)]
    written = func._schema.is_mutable and not isinstance(leaves[0], DeviceTensor)
    if written or not scalars or any(leaf.ndim for leaf in others):
        shapes = [(tuple(leaf.shape), str(leaf.device)) for leaf in leaves]
        raise MixedDevicesError(f"{func}: tensors of two devices: {shapes}")


def _held(value: Any) -> Any:
    if isinstance(value, torch.device) and value.type == DEVICE.type:
        return torch.device("cpu")
    return value.held if isinstance(value, DeviceTensor) else value


def _autocast(device_type: str, *args: Any, _own=torch.autocast, **kwargs: Any) -> Any:
    if device_type == DEVICE.type:
        return contextlib.nullcontext()
    return _own(device_type, *args, **kwargs)


class _Generator(type):
    """`torch.Generator` that knows `DEVICE`."""

    def __call__(cls, device: Any = "cpu") -> torch.Generator:
        here = torch.device(device).type == DEVICE.type
        return DeviceGenerator().manual_seed(0) if here else _TorchGenerator(device)

    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, _TorchGenerator)


class _GeneratorOfBoth(metaclass=_Generator):
    pass


def to_second_device(value: Any) -> Any:
    """Modules and nested tensors, moved to `DEVICE`."""
    if isinstance(value, torch.nn.Module):
        return value.to(DEVICE)
    return tree_map_only(Tensor, lambda tensor: tensor.to(DEVICE), value)


class DeviceAccelerator:
    """What `accelerate` gives to one process on `DEVICE`, which it does not know."""

    def __init__(self, device: torch.device) -> None:
        from accelerate import Accelerator

        self._own, self.device = Accelerator(cpu=True), device

    def prepare(self, *parts: Any) -> Any:
        moved = [part.to(self.device) if hasattr(part, "to") else part for part in parts]
        return moved[0] if len(moved) == 1 else tuple(moved)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)
