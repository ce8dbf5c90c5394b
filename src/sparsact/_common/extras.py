"""Optional dependencies, imported with an error that names the extra to install."""

import importlib
from types import ModuleType

from sparsact._common.errors import MissingExtraError
from sparsact._common.tested_versions import warn_if_untested


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency.

    Raises:
        MissingExtraError: it is not installed.
    """
    warn_if_untested(module)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise
        raise MissingExtraError(
            f"{module} is needed here and not installed: pip install 'sparsact[{extra}]'"
        ) from error
