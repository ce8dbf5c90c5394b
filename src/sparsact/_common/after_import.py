"""Adding to another package when it is imported, without importing it for that."""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


def after_import(module: str, addition: str) -> None:
    """Import the module `addition` as soon as `module` is imported, or now if it already is."""
    if module in sys.modules:
        importlib.import_module(addition)
    else:
        sys.meta_path.insert(0, _Watcher(module, addition))


class _Watcher(MetaPathFinder):
    """Sees all imports until the one that it waits for."""

    def __init__(self, module: str, addition: str) -> None:
        self.module, self.addition = module, addition

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The usual spec of the awaited module; its execution ends with the addition's import."""
        if name != self.module:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_add(module: ModuleType) -> None:
                execute(module)
                importlib.import_module(self.addition)

            spec.loader.exec_module = execute_and_add  # type: ignore[method-assign]
        return spec
