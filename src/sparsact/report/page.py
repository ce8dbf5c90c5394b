"""One HTML file that works offline."""

from html import escape
from pathlib import Path

from sparsact.report import plots
from sparsact.report.records import ComparisonReport
from sparsact.report.style import FRONT, INK
from sparsact.report.table import cells, header

_STYLE = f"""
body {{ font: 15px/1.5 system-ui, sans-serif; color: {INK}; max-width: 1280px;
       margin: 2rem auto; padding: 0 1rem; }}
h1 {{ margin-bottom: .2rem; }}
ul.facts {{ list-style: none; padding: 0; color: #52606d; }}
p.conclusion {{ border-left: 4px solid {FRONT}; padding: .4rem 1rem; background: #fdf3f2; }}
div.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .35rem .55rem; text-align: right; border-bottom: 1px solid #e4e7eb;
          white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; }}
tr.picked td {{ background: #fdf3f2; font-weight: 600; }}
"""


def save_page(report: ComparisonReport, path: Path) -> None:
    """Write the report as one self-contained file; plotly is inlined once."""
    figures = [
        plots.frontier(report),
        plots.densities(report),
        plots.histograms(report),
        plots.curves(report),
    ]
    parts = [
        figure.to_html(full_html=False, include_plotlyjs=i == 0, config={"responsive": True})
        for i, figure in enumerate(figures)
    ]
    path.write_text(_document(report, parts), encoding="utf-8")


def _document(report: ComparisonReport, figures: list[str]) -> str:
    facts = "".join(f"<li>{escape(fact)}</li>" for fact in report.facts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(report.title)}</title><style>{_STYLE}</style></head><body>"
        f'<h1>{escape(report.title)}</h1><ul class="facts">{facts}</ul>'
        f'<p class="conclusion">{escape(report.conclusion)}</p>'
        f"{figures[0]}<h2>Every setting</h2>{_table(report)}{''.join(figures[1:])}</body></html>"
    )


def _table(report: ComparisonReport) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in header(report.score_name))
    body = "".join(
        f"<tr{' class=picked' if row.picked else ''}>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells(row))
        + "</tr>"
        for row in report.rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
