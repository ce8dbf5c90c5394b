"""A page with the pictures of all files of a folder."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from urllib.parse import quote

from sparsact.denoise.file_denoising import MORE_THAN_NOISE
from sparsact.report.report_page import save_page, section

STYLE = ".sparsact img { width: 100%; }"


def save_folder_page(folder: Path, lines: Mapping[Path, str]) -> None:
    """Write ``index.html`` beside the pictures.

    Args:
        folder: of the pictures.
        lines: what is said of each file, by its picture, in the order of the page.

    Raises:
        OutputError: the page cannot be written.
    """
    parts = []
    for picture, line in lines.items():
        name = picture.relative_to(folder).as_posix()
        link = quote(name)
        parts.append(section(name.removesuffix(".png"), line))
        parts.append(f'<a href="{link}"><img loading="lazy" src="{link}" alt="{escape(name)}"></a>')
    count = sum(MORE_THAN_NOISE in line for line in lines.values())
    conclusion = f"More than noise was removed from {count} of {len(lines)} files."
    where = [str(folder.resolve())]
    save_page(folder / "index.html", "Denoised files", where, conclusion, parts, STYLE)
