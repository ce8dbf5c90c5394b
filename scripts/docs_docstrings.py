"""For the documentation's build: the package as the reference pages want to read it."""

import re
from collections.abc import Iterator
from typing import Any

from griffe import Alias, Extension, Module, Object

ROLE = re.compile(r":(?:func|class|meth|mod|data):`([^`]+)`")
EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)


class Readable(Extension):
    """Sphinx's roles become code, examples are shown as code, and no module hides a function."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rewrite the docstring of each object when it is read."""
        if obj.docstring is not None:
            text = ROLE.sub(r"`\1`", obj.docstring.value)
            obj.docstring.value = EXAMPLE.sub("Examples:", text)

    def on_package(self, *, pkg: Module, **_: Any) -> None:
        """Replace a module by the function of its name where the package imports that."""
        functions = dict(_hidden_functions(pkg))
        for path, function in functions.items():
            function.parent = pkg[path.removeprefix(f"{pkg.path}.")].parent
            function.parent.members[function.name] = function
        _point_aliases(pkg, functions)


def _hidden_functions(package: Module) -> Iterator[tuple[str, Object]]:
    """The functions that a module of the same name hides, by that module's path."""
    for name, module in package.modules.items():
        if not module.is_alias:
            if package.imports.get(name) == f"{module.path}.{name}":
                yield module.path, module.members[name]
            yield from _hidden_functions(module)


def _point_aliases(package: Module, functions: dict[str, Object]) -> None:
    """Let names that were imported from elsewhere in the package stand for the functions."""
    for name, member in list(package.members.items()):
        if member.is_alias and member.target_path in functions:
            package.members[name] = Alias(name, functions[member.target_path], parent=package)
        elif not member.is_alias and member.is_module:
            _point_aliases(member, functions)
