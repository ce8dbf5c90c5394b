"""Optional dependencies: an error that says which extra brings them."""

import importlib
from types import ModuleType

from sparsact._common.tested_versions import warn_if_untested


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, or raise an ImportError that names the extra it comes with."""
    warn_if_untested(module)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise
        raise ImportError(
            f"{module} is needed here and not installed: pip install 'sparsact[{extra}]'"
        ) from error
