"""Files of the repository that pages of the documentation show: sources, and whole pages."""

import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
DOCS_LINK = re.compile(r"\]\(docs/")


def source_file(name: str) -> str:
    """The file in which a public name of the package is defined, as a block of code.

    The file is found by the name, so that it may move without a change of the page.
    """
    file = Path(inspect.getsourcefile(_defined(name)) or "")
    code = file.read_text(encoding="utf-8").rstrip()
    return f'```py title="{file.relative_to(ROOT).as_posix()}"\n{code}\n```'


def included_page(name: str) -> str:
    """A Markdown file of the repository's root, with its links as seen from docs/."""
    return DOCS_LINK.sub("](", (ROOT / name).read_text(encoding="utf-8"))


def _defined(name: str) -> ModuleType | type | object:
    """The module, class or function; a custom operator's plain function."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
    thing = getattr(importlib.import_module(module), attribute)
    return getattr(thing, "_init_fn", thing)
