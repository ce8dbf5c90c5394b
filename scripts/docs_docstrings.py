"""For the documentation's build: docstrings as the reference pages want them."""

import re
from typing import Any

from griffe import Extension, Object

ROLE = re.compile(r":(?:func|class|meth|mod|data):`([^`]+)`")
EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)


class Readable(Extension):
    """Sphinx's roles become code type, and examples the section that is shown as code."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rewrite the docstring of each object as it is read."""
        if obj.docstring is not None:
            text = ROLE.sub(r"`\1`", obj.docstring.value)
            obj.docstring.value = EXAMPLE.sub("Examples:", text)
