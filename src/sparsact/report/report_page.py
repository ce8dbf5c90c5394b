"""Every report is one HTML file that works offline."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from sparsact._common.atomic import write_text
from sparsact.report.palette import FRONT, HIGHLIGHT, INK, LINE, MUTED
from sparsact.report.plotly_figures import Figure

_STYLE = f"""
:root {{ color-scheme: light; }}
body {{ font: 15px/1.5 system-ui, sans-serif; color: {INK}; background: white; max-width: 1280px;
       margin: 2rem auto; padding: 0 1rem; }}
h1 {{ margin-bottom: .2rem; overflow-wrap: anywhere; }}
ul.facts {{ list-style: none; padding: 0; color: {MUTED}; overflow-wrap: anywhere; }}
p.conclusion {{ border-left: 4px solid {FRONT}; padding: .4rem 1rem; background: {HIGHLIGHT}; }}
div.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .35rem .55rem; text-align: right; border-bottom: 1px solid {LINE};
          white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; }}
tr.picked td {{ background: {HIGHLIGHT}; font-weight: 600; }}
"""

_CONFIG = {
    "responsive": True,
    "displaylogo": False,
    # this button would upload the figure to plotly's server
    "modeBarButtonsToRemove": ["sendChartToCloud"],
    "plotlyServerURL": "",
}


def save_page(
    path: Path,
    title: str,
    facts: Iterable[str],
    conclusion: str,
    parts: Sequence[str | Figure],
    style: str = "",
) -> None:
    """Write a report as one self-contained file.

    Args:
        path: the file.
        title: plain text.
        facts: what was done, one line each; plain text under the title.
        conclusion: the result; plain text.
        parts: HTML, which is not escaped, and figures; the first figure brings plotly's script.
        style: CSS in addition to that of all reports.

    Raises:
        OutputError: the file cannot be written; a previous report is kept.
    """
    listed = "".join(f"<li>{escape(fact)}</li>" for fact in facts)
    document = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}{style}</style></head><body>"
        f'<h1>{escape(title)}</h1><ul class="facts">{listed}</ul>'
        f'<p class="conclusion">{escape(conclusion)}</p>{"".join(_rendered(parts))}</body></html>'
    )
    # a path on the page may hold bytes that are not UTF-8: they become character references
    write_text(path, document.encode("utf-8", "xmlcharrefreplace").decode("utf-8"))


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


def _rendered(parts: Sequence[str | Figure]) -> Iterable[str]:
    figures = 0
    for part in parts:
        if isinstance(part, str):
            yield part
        else:
            yield part.to_html(
                full_html=False,
                include_plotlyjs=figures == 0,
                div_id=f"figure-{figures}",
                config=_CONFIG,
            )
            figures += 1
