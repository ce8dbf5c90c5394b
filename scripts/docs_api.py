"""The overview of the public names: each with the first sentence of its docstring."""

import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
MODULE = re.compile(r"^::: (\S+)$", re.MULTILINE)
TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
ROLE = re.compile(r":\w+:`~?([^`]+)`|``([^`]+)``")
OUTSIDE_CODE_BAR = re.compile(r"\|(?=[^`]*(?:`[^`]*`[^`]*)*$)")
"""A bar that would end a table's cell."""
SENTENCE = re.compile(r"(.+?\.)(?:\s|$)", re.DOTALL)


def api_tables(_: str = "") -> str:
    """A table for each page of the reference, in the order of their titles."""
    pages = [file for file in sorted(REFERENCE.glob("*.md")) if file.name != "index.md"]
    return "\n\n".join(_page_table(file) for file in pages)


def first_sentence(thing: Any) -> str:
    """The first sentence of a docstring, as Markdown in one line."""
    text = inspect.getdoc(thing) or ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    sentence = SENTENCE.match(paragraph)
    shown = ROLE.sub(lambda role: f"`{role[1] or role[2]}`", sentence[1] if sentence else paragraph)
    return OUTSIDE_CODE_BAR.sub(r"\\|", shown)


def _is_documented(thing: Any) -> bool:
    """Whether it is a class or function: constants and aliases of types have no docstring."""
    return inspect.isclass(thing) or inspect.isroutine(thing)


def _page_table(file: Path) -> str:
    text = file.read_text(encoding="utf-8")
    title, module_name = TITLE.findall(text)[0], MODULE.findall(text)[0]
    module = importlib.import_module(module_name)
    lines = [f"## [{title}]({file.name})", "", f"`{module_name}`: {first_sentence(module)}", ""]
    lines += ["| name | |", "|---|---|"]
    for name in _public_names(module):
        thing = getattr(module, name)
        if _is_documented(thing):
            lines.append(f"| [`{name}`][{module_name}.{name}] | {first_sentence(thing)} |")
    return "\n".join(lines)


def _public_names(module: ModuleType) -> list[str]:
    """``__all__``, or what a module without one defines."""
    defined = [
        name
        for name, thing in vars(module).items()
        if getattr(thing, "__module__", None) == module.__name__ and not name.startswith("_")
    ]
    return list(getattr(module, "__all__", defined))
