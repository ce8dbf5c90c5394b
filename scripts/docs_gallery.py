"""The gallery: every example with its picture, what it printed, and its code.

    python scripts/docs_gallery.py [NAME …]

runs the examples (a minute or two for all) and keeps their pictures and what they printed in
docs/gallery/, from which the page is made.
"""

import ast
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
GALLERY = ROOT / "docs" / "gallery"


def gallery_pages(_: str = "") -> str:
    """A section for each example."""
    return "\n\n".join(_section(script) for script in EXAMPLES)


def run_example(script: Path, folder: Path) -> str:
    """Run a script with a folder for its picture; return what it printed.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    run = subprocess.run(
        [sys.executable, str(script), str(folder)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return run.stdout.replace(f"{folder}{os.sep}", "")


def _section(script: Path) -> str:
    name = script.stem
    code = script.read_text(encoding="utf-8").rstrip()
    description = (ast.get_docstring(ast.parse(code)) or "").partition("\n\npython ")[0]
    title, _, more = description.partition("\n\n")
    printed = (GALLERY / f"{name}.txt").read_text(encoding="utf-8").rstrip()
    return "\n\n".join(
        [
            f"## `{name}`",
            *filter(None, (title, more)),
            f"[![{title}](gallery/{name}.png)](gallery/{name}.png)",
            f"```text\n{printed}\n```",
            f'??? example "examples/{name}.py"\n\n' + _indented(f"```py\n{code}\n```"),
        ]
    )


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in text.split("\n"))


def main(names: list[str]) -> None:
    GALLERY.mkdir(exist_ok=True)
    for script in EXAMPLES:
        if names and script.stem not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            printed = run_example(script, Path(folder))
            picture = Image.open(Path(folder) / f"{script.stem}.png").convert("RGB")
            picture.quantize(128).save(GALLERY / f"{script.stem}.png", optimize=True)
        (GALLERY / f"{script.stem}.txt").write_text(printed, encoding="utf-8")
        print(f"docs/gallery/{script.stem}.png")


if __name__ == "__main__":
    main(sys.argv[1:])
