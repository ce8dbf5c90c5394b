"""The page and the picture of a comparison from hand-made records."""

import dataclasses
import re
from html import escape
from pathlib import Path

import pytest

from sparsact.report.comparison.comparison_page import save_comparison
from sparsact.report.comparison.comparison_picture import save_frontier
from sparsact.report.comparison.comparison_plots import densities, front_points, histograms
from sparsact.report.comparison.comparison_records import (
    Baseline,
    ComparisonReport,
    Curve,
    DensityTrace,
    HistogramTrace,
    SettingRow,
    Spread,
)
from sparsact.report.comparison.comparison_table import cells, header

LABELS = ["relu", "soft <b>λ</b> & co=0.5", "gone"]


def make_row(label: str, density: float | None, **changes: object) -> SettingRow:
    value = None if density is None else Spread(density, 0.01)
    fields = {
        "label": label,
        "activation": label.split()[0],
        "trainings": 2,
        "diverged": 2 if density is None else 0,
        "score": value,
        "density": value,
        "dead": value,
        "zero_gradient": value,
        "epochs_to_reference": value,
        "step_ratio": None if density is None else 1.25,
        "learned_lambda": None,
        "on_front": density is not None,
        "picked": False,
    }
    return SettingRow(**{**fields, **changes})


@pytest.fixture
def report() -> ComparisonReport:
    rows = (
        make_row(LABELS[0], 0.5),
        make_row(LABELS[1], 0.2, picked=True),
        make_row(LABELS[2], None),
    )
    return ComparisonReport(
        title="Title <script>alert(1)</script>",
        facts=("a <fact> & more",),
        conclusion="conclude <i>this</i>",
        score_name="R²",
        rows=rows,
        densities=tuple(
            DensityTrace(label, f"layer {i}", (0.5, 0.4)) for label in LABELS[:2] for i in (1, 2)
        ),
        histograms=(HistogramTrace(LABELS[0], "layer 1", (0.5, 1.5), (0.25, 0.75)),),
        curves=tuple(Curve(f"curve {i}", (0.0, 1.0), (0.0, 1.0), (1.0, 1.0)) for i in range(5)),
    )


def test_page_holds_every_label_escaped(report: ComparisonReport, tmp_path: Path) -> None:
    save_comparison(report, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    for text in (report.title, *report.facts, report.conclusion):
        assert escape(text) in page
    table = page[page.index("<table>") : page.index("</table>")]
    for label in LABELS:
        assert f"<td>{escape(label)}" in table
    assert "<b>" not in table
    assert "<script>alert" not in page
    assert table.count("<tr") == 1 + len(LABELS)
    assert table.count("class=picked") == 1
    assert "gone (2 of 2 diverged)" in table


def test_page_inlines_plotly_once_and_loads_nothing(
    report: ComparisonReport, tmp_path: Path
) -> None:
    save_comparison(report, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert sum(len(script) > 1_000_000 for script in page.split("<script")) == 1
    assert page.count("Plotly.newPlot(") >= 4
    markup = re.sub(r"(<script\b[^>]*>).*?</script>", r"\1", page, flags=re.DOTALL)
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", markup)


def test_cells_match_the_header_and_show_gaps(report: ComparisonReport) -> None:
    relu, _, gone = (cells(row) for row in report.rows)
    assert len(relu) == len(gone) == len(header(report.score_name))
    assert relu[:3] == ("relu", "0.500 ± 0.010", "50.0 ± 1.0%")
    assert relu[6] == "1.25"
    assert set(gone[1:]) == {"–"}


def test_front_runs_from_sparse_to_dense(report: ComparisonReport) -> None:
    assert front_points(report.rows) == [(0.2, 0.2), (0.5, 0.5)]
    assert front_points([make_row("off", 0.3, on_front=False)]) == []


@pytest.mark.parametrize("keep", [3, 0], ids=["rows", "all-diverged"])
def test_still_picture_is_a_png(report: ComparisonReport, tmp_path: Path, keep: int) -> None:
    rows = report.rows[:keep] or (make_row("gone", None),)
    bare = ComparisonReport(report.title, (), "", "R²", rows, (), (), ())
    save_frontier(bare, tmp_path / "frontier.png")
    save_comparison(bare, tmp_path / "page.html")
    assert (tmp_path / "frontier.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "page.html").stat().st_size > 1_000_000


def test_many_layers_are_a_map_and_some_panels(report: ComparisonReport) -> None:
    layers = [f"block.{i}" for i in range(20)]
    deep = dataclasses.replace(
        report,
        densities=tuple(
            DensityTrace(label, layer, (0.5, i / 20))
            for label in LABELS[:2]
            for i, layer in enumerate(layers)
        ),
        histograms=tuple(HistogramTrace(LABELS[0], layer, (0.5,), (1.0,)) for layer in layers),
    )
    (heat,) = densities(deep).data
    assert heat.type == "heatmap"
    assert list(heat.x) == layers
    assert list(heat.y) == LABELS[:2]
    assert [list(row) for row in heat.z] == [[i / 20 for i in range(20)]] * 2
    panels = histograms(deep)
    assert len(panels.data) == 6
    assert "6 of 20 layers" in panels.layout.title.text
    assert len(densities(report).data) == 4


def test_the_constant_prediction_is_the_last_row(report: ComparisonReport, tmp_path: Path) -> None:
    baseline = Baseline("most <frequent>", 0.4, 0.5)
    save_comparison(dataclasses.replace(report, baseline=baseline), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    table = page[page.index("<table>") : page.index("</table>")]
    rows = table.split("<tr")
    assert len(rows) == 2 + len(LABELS) + 1
    assert "<td>most &lt;frequent&gt;</td><td>0.500</td><td>–</td>" in rows[-1]
