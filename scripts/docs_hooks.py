"""The documentation's build: fills the marked places of pages with what is generated.

A page says ``<!-- generated: NAME ARGUMENT -->`` on a line of its own. NAME is a key of
`GENERATORS`; an unknown name or argument ends the build with an error. mkdocs calls the functions
``on_…``; tests call `filled`.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docs_api import api_tables
from docs_formats import format_table
from docs_gallery import gallery_pages
from docs_included import included_page, source_file
from docs_results import measured_ratios, result_table
from docs_verbs import verb_table

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MARKER = re.compile(r"^<!-- generated: (\w+) ?(.*?) -->$", re.MULTILINE)

GENERATORS: dict[str, Callable[[str], str]] = {
    "api": api_tables,
    "formats": format_table,
    "gallery": gallery_pages,
    "page": included_page,
    "ratios": measured_ratios,
    "result": result_table,
    "source": source_file,
    "verbs": verb_table,
}


def filled(markdown: str) -> str:
    """The page with each marker replaced by what its generator writes."""
    return MARKER.sub(lambda match: GENERATORS[match[1]](match[2]), markdown)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Mkdocs: before a page's Markdown becomes HTML."""
    return filled(markdown)


def on_files(files: Any, config: Any) -> Any:
    """Mkdocs: add the pictures of the benchmarks, which lie outside of docs/."""
    from mkdocs.structure.files import File

    for picture in sorted((ROOT / "benchmarks" / "results").glob("*.png")):
        target = f"results/{picture.name}"
        files.append(File.generated(config, target, abs_src_path=str(picture)))
    return files
