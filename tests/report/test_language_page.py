"""The page and the picture of a sparse language model, from hand-made records."""

from dataclasses import replace
from html import escape

import pytest

from sparsact.report.language.language_page import save_language
from sparsact.report.language.language_picture import save_sparsity
from sparsact.report.language.language_plots import by_layer, curves, decode, loss
from sparsact.report.language.language_records import (
    DecodeRow,
    Estimate,
    KindRow,
    LanguageReport,
    QualityRow,
    SiteRow,
)
from sparsact.report.language.language_tables import (
    DECODE,
    KINDS,
    QUALITY,
    decode_cells,
    kind_cells,
    quality_cells,
)


@pytest.fixture
def report():
    return LanguageReport(
        title="model <script>alert(1)</script>",
        facts=("text: a & b",),
        conclusion="so <i>fast</i>",
        quality=(
            QualityRow("dense", 0.0, Estimate(20.0, 1.0), None),
            QualityRow("sparse", 0.5, Estimate(25.0, 1.5), Estimate(1.25, 0.01)),
            QualityRow("calibrated at 30%", 0.3, Estimate(21.0, None), Estimate(1.05, None)),
        ),
        decode=(
            DecodeRow("dense", 60.0, 58.0, 63.0, 538_000_000, 1.0),
            DecodeRow("sparse", 40.0, 39.0, 42.0, 160_000_000, 1.5),
        ),
        kinds=(KindRow("q|k|v", 2, 1.0, 0.5, 0.4, 0.6), KindRow("all", 2, 1.0, 0.5, 0.4, 0.6)),
        sites=(
            SiteRow("layers.0.q", "q|k|v", 0, 8, 0.4),
            SiteRow("layers.1.q", "q|k|v", 1, 8, 0.6),
            SiteRow("head", "head", None, 8, 0.1),
        ),
    )


def test_the_page_holds_every_cell_escaped(report, tmp_path):
    save_language(report, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    for text in (report.title, report.facts[0], report.conclusion):
        assert escape(text) in page
    assert "<script>alert" not in page
    rows = [
        *map(quality_cells, report.quality),
        *map(decode_cells, report.decode),
        *map(kind_cells, report.kinds),
    ]
    for row in rows:
        assert "".join(f"<td>{escape(cell)}</td>" for cell in row) in page
    assert page.count("<table>") == 3
    assert page.count("Plotly.newPlot(") == 3
    assert page.count('src="http') == 0


def test_cells_match_their_headers(report):
    dense, sparse, single = map(quality_cells, report.quality)
    assert len(dense) == len(QUALITY)
    assert dense[3] == "–"
    assert sparse == ("sparse", "50.0%", "25.00 ± 1.50", "1.250 ± 0.010×")
    assert single[2:] == ("21.00", "1.050×")
    assert decode_cells(report.decode[1]) == (
        "sparse", "40.00", "39.00 – 42.00", "25.0", "160 MB", "1.50×",
    )  # fmt: skip
    assert len(DECODE) == 6
    assert kind_cells(report.kinds[0]) == ("q|k|v", "2", "100.0%", "50.0%", "40.0%", "60.0%")
    assert len(KINDS) == 6


def test_figures_show_the_records(report):
    (line,) = by_layer(report).data
    assert (list(line.x), list(line.y), line.name) == ([0, 1], [0.4, 0.6], "q|k|v")
    assert [[row.sparsity for row in rows] for rows in curves(report)] == [[0.0, 0.3, 0.5]]
    (line,) = loss(report).data
    assert list(line.y) == [1.0, 1.05, 1.25]
    assert list(line.error_y.array) == [0.0, 0.0, 0.01]
    (bars,) = decode(report).data
    assert list(bars.x) == [40.0, 60.0]
    assert list(bars.error_x.array) == [2.0, 3.0]


def test_models_with_changed_weights_are_not_connected(report):
    dense, sparse, level = report.quality
    tuned = replace(report, quality=(dense, replace(sparse, apart=True), level))
    line, alone = loss(tuned).data
    assert list(line.x) == [0.0, 0.3]
    assert (list(alone.x), alone.name) == ([0.5], "compensated or tuned")


@pytest.mark.parametrize("blocks", [True, False])
@pytest.mark.parametrize("apart", [True, False])
def test_the_picture_is_a_png(report, blocks, apart, tmp_path):
    dense, sparse, level = report.quality
    report = replace(report, quality=(dense, replace(sparse, apart=apart), level))
    bare = LanguageReport(report.title, (), "", report.quality, (), (), ())
    save_sparsity(report if blocks else bare, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
