"""Callbacks that use penalties and meters in the trainers of other libraries.

A callback imports the library of its trainer when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sparsact._common.extras import require
from sparsact.integrations.tensorboard import write_tensorboard

if TYPE_CHECKING:
    from sparsact.integrations.lightning import LightningCallback
    from sparsact.integrations.transformers import TransformersCallback

__all__ = ["LightningCallback", "TransformersCallback", "write_tensorboard"]

_LIBRARIES = {"LightningCallback": "lightning", "TransformersCallback": "transformers"}


def __getattr__(name: str) -> Any:
    """Load a callback, or raise an ImportError that names the extra with its library."""
    if name not in _LIBRARIES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    library = _LIBRARIES[name]
    require(library, library)
    return getattr(import_module(f"{__name__}.{library}"), name)
