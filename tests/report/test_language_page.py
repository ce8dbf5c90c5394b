"""The page and the picture of a sparse language model, from hand-made records."""

import xml.etree.ElementTree as ElementTree
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
    assert page.count('<svg class="chart') == 3
    assert page.count('src="http') == 0
    assert "<script" not in page


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
    assert [[row.sparsity for row in rows] for rows in curves(report)] == [[0.0, 0.3, 0.5]]
    lines = by_layer(report)
    assert lines.key == {"q|k|v": "c0"}
    assert titles(lines) == ["layers.0.q: 40.0%", "layers.1.q: 60.0%"]
    assert titles(loss(report)) == [
        "dense: 1.000 × dense",
        "calibrated at 30%: 1.050 × dense",
        "sparse: 1.250 × dense",
    ]
    assert loss(report).svg().count('class="error') == 1  # of the only one with an error
    assert titles(decode(report))[::2] == [
        "dense: 60.00 ms (58.00 to 63.00)",
        "sparse: 40.00 ms (39.00 to 42.00)",
    ]
    widths = [
        float(e.get("width"))
        for e in ElementTree.fromstring(decode(report).svg()).iter()
        if e.get("class", "").startswith("bar c")
    ]
    assert widths[0] / widths[1] == pytest.approx(60 / 40, rel=0.01)


def test_models_with_changed_weights_are_not_connected(report):
    dense, sparse, level = report.quality
    tuned = replace(report, quality=(dense, replace(sparse, apart=True), level))
    assert [[row.sparsity for row in rows] for rows in curves(tuned)] == [[0.0, 0.3], [0.5]]
    drawn = loss(tuned).svg()
    assert drawn.count('class="stroke') == 1
    assert drawn.count("front star") == 1


def titles(chart):
    """The hints of a drawing, in its order."""
    return [e.text for e in ElementTree.fromstring(chart.svg()).iter() if e.tag == "title"]


@pytest.mark.parametrize("blocks", [True, False])
@pytest.mark.parametrize("apart", [True, False])
def test_the_picture_is_a_png(report, blocks, apart, tmp_path):
    dense, sparse, level = report.quality
    report = replace(report, quality=(dense, replace(sparse, apart=apart), level))
    bare = LanguageReport(report.title, (), "", report.quality, (), (), ())
    save_sparsity(report if blocks else bare, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
