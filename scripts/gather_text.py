"""Collect a million characters of real English text: the docstrings of Python's own library.

    python scripts/gather_text.py [DIRECTORY]

writes into DIRECTORY (default: models/docstrings)

    train.txt        the docstrings of nine in ten modules
    held_out.txt     the docstrings of every tenth module, except those in train.txt

Modules are sorted by name, and each docstring is used once: the same version of Python gives the
same text.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

LIBRARY = Path(ast.__file__).parent
SHORTEST = 200
"""Docstrings with fewer characters are labels rather than texts."""
PROSE = 0.6
"""Least share of letters and spaces; tables and code have less."""


def main(directory: Path) -> None:
    parts: dict[str, list[str]] = {"train": [], "held_out": []}
    used: set[str] = set()
    for index, file in enumerate(modules()):
        new = [text for text in docstrings(file) if text not in used]
        used.update(new)
        parts["held_out" if index % 10 == 9 else "train"] += new
    directory.mkdir(parents=True, exist_ok=True)
    for name, texts in parts.items():
        file = directory / f"{name}.txt"
        file.write_text("\n\n".join(texts) + "\n", encoding="utf-8")
        print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")


def modules() -> list[Path]:
    """Return the modules that ship with Python, without tests."""
    files = sorted(LIBRARY.rglob("*.py"))
    parts = {file: file.relative_to(LIBRARY).parts for file in files}
    return [
        file
        for file in files
        if not any("test" in part or part == "site-packages" for part in parts[file])
    ]


def docstrings(file: Path) -> Iterator[str]:
    """Yield the docstrings of a module that are prose."""
    try:
        tree = ast.parse(file.read_bytes())
    except SyntaxError:  # the library contains templates and code that is not valid Python
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            text = ast.get_docstring(node) or ""
            letters = sum(character.isalpha() or character == " " for character in text)
            if len(text) >= SHORTEST and letters >= PROSE * len(text):
                yield text


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "models/docstrings"))
