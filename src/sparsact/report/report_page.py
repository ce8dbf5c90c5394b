"""Every report is one HTML file that works offline and needs no script."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from sparsact._common.atomic import write_text
from sparsact.report.page_style import PAGE_STYLE, STYLE


def save_page(
    path: Path,
    title: str,
    facts: Iterable[str],
    conclusion: str,
    parts: Iterable[str],
    style: str = "",
) -> None:
    """Write a report as one self-contained file.

    Args:
        path: the file.
        title: plain text.
        facts: what was done, one line each; plain text under the title.
        conclusion: the result; plain text.
        parts: HTML, which is not escaped.
        style: CSS in addition to that of all reports.

    Raises:
        OutputError: the file cannot be written; a previous report is kept.
    """
    document = (
        '<!doctype html><html lang="en" class="sparsact"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{PAGE_STYLE}{style}</style></head>"
        f"<body>{_body(title, facts, conclusion, parts)}</body></html>"
    )
    # a path on the page may hold bytes that are not UTF-8: they become character references
    write_text(path, document.encode("utf-8", "xmlcharrefreplace").decode("utf-8"))


def fragment(title: str, facts: Iterable[str], conclusion: str, parts: Iterable[str]) -> str:
    """A report as a part of another page, which keeps its own look."""
    body = _body(title, facts, conclusion, parts)
    return f'<div class="sparsact"><style>{STYLE}</style>{body}</div>'


def _body(title: str, facts: Iterable[str], conclusion: str, parts: Iterable[str]) -> str:
    listed = "".join(f"<li>{escape(fact)}</li>" for fact in facts)
    return (
        f'<h1>{escape(title)}</h1><ul class="facts">{listed}</ul>'
        f'<p class="conclusion">{escape(conclusion)}</p>{"".join(parts)}'
    )


def section(title: str, how: str = "") -> str:
    """The heading of a part of the page, and how to read that part; plain text."""
    explained = f'<p class="how">{escape(how)}</p>' if how else ""
    return f"<h2>{escape(title)}</h2>{explained}"


def table(header: Iterable[str], rows: Iterable[Sequence[str]], picked: int | None = None) -> str:
    """HTML of a table of plain text; row number `picked` is highlighted."""
    head = "".join(f"<th>{escape(title)}</th>" for title in header)
    body = "".join(
        f"<tr{' class=picked' if i == picked else ''}>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in row)
        + "</tr>"
        for i, row in enumerate(rows)
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
