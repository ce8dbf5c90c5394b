"""The page and the picture of a comparison from hand-made records."""

import dataclasses
import io
import math
import re
from html import escape
from pathlib import Path

import pytest
from rich.console import Console

from sparsact.cli.tables import show
from sparsact.report.comparison.activation_panels import histograms
from sparsact.report.comparison.comparison_page import comparison_fragment, save_comparison
from sparsact.report.comparison.comparison_picture import save_frontier
from sparsact.report.comparison.comparison_records import (
    Baseline,
    ComparisonReport,
    Curve,
    DensityTrace,
    HistogramTrace,
    LambdaTrace,
    LearningTrace,
    SettingRow,
    Spread,
)
from sparsact.report.comparison.comparison_table import cells, fitting_table, header, text_table
from sparsact.report.comparison.frontier_figure import close_up, front_points, frontier, lines
from sparsact.report.comparison.heat_map import common_prefix, heat_map
from sparsact.report.comparison.training_panels import (
    density_curves,
    lambda_curves,
    learning_curves,
)

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


def test_page_needs_no_script_and_loads_nothing(report: ComparisonReport, tmp_path: Path) -> None:
    save_comparison(report, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert not re.search(r"(src|href)\s*=", page)
    assert not re.search(r"url\(|@import|https?:", page)
    assert page.count('<svg class="chart') >= 8
    assert "prefers-color-scheme: dark" in page
    assert len(page) < 100_000


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
    assert (tmp_path / "page.html").stat().st_size > 3_000


def deep_report(report: ComparisonReport, settings: int, layers: int) -> ComparisonReport:
    """One of many settings and layers, over many epochs."""
    labels = [f"learned_softshrink λ₀={i}" for i in range(settings)]
    names = [f"model.layers.{i}.act" for i in range(layers)]
    epochs = [0.5 + math.sin(i) / 3 for i in range(300)]
    pairs = [(label, name) for label in labels for name in names]
    bins = tuple(float(i) for i in range(100))
    return dataclasses.replace(
        report,
        rows=tuple(make_row(label, i / settings) for i, label in enumerate(labels)),
        densities=tuple(DensityTrace(*pair, (*epochs, i / 2000)) for i, pair in enumerate(pairs)),
        histograms=tuple(HistogramTrace(*pair, bins, (0.01,) * 100) for pair in pairs),
        learning=tuple(LearningTrace(label, tuple(epochs), (0.1,) * 300) for label in labels),
        lambdas=tuple(LambdaTrace(*pair, tuple(epochs)) for pair in pairs),
    )


def test_a_page_of_many_settings_and_layers_stays_under_a_megabyte(
    report: ComparisonReport, tmp_path: Path
) -> None:
    save_comparison(deep_report(report, settings=43, layers=48), tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < 1_000_000


def test_the_heat_map_has_every_layer_and_setting(report: ComparisonReport) -> None:
    deep = deep_report(report, settings=3, layers=40)
    page = heat_map(deep.densities)
    rows = page.split("<tr>")[2:]
    assert len(rows) == 40
    assert [row[row.index(">") + 1 : row.index("</th>")] for row in rows] == [
        f"{i}.act" for i in range(40)
    ]
    shades = re.findall(r"--d:([0-9.]+)", page)
    expected = [f"{(i + 40 * setting) / 2000:.3f}" for i in range(40) for setting in range(3)]
    assert shades == expected
    assert "Names of layers are without model.layers." in page


@pytest.mark.parametrize(
    ("names", "prefix"),
    [
        (["a.b.c", "a.b.d"], "a.b."),
        (["act1", "act2"], ""),
        (["a.b", "a.b.c"], "a."),
        (["only.one"], ""),
        (["", "x"], ""),
        (["block.10.act", "block.1.act"], "block."),
    ],
)
def test_the_common_prefix_ends_at_a_dot(names: list[str], prefix: str) -> None:
    assert common_prefix(names) == prefix


def test_a_layer_that_one_setting_lacks_is_a_gap(report: ComparisonReport) -> None:
    assert heat_map(report.densities[:3]).count("<td>–</td>") == 1


def test_deep_networks_are_drawn_as_bands(report: ComparisonReport) -> None:
    flat, deep = deep_report(report, 1, 3), deep_report(report, 1, 9)
    assert lambda_curves(flat).count('class="stroke') == 3 + 1
    assert lambda_curves(flat).count('class="band') == 0
    assert density_curves(deep).count('class="stroke') == 1
    assert density_curves(deep).count('class="band') == 1
    assert histograms(deep).count("<svg") == 4


def test_relu_stands_behind_every_learning_curve(report: ComparisonReport) -> None:
    traces = tuple(LearningTrace(label, (0.1, 0.9)) for label in LABELS[:2])
    page = learning_curves(dataclasses.replace(report, learning=traces))
    assert page.count("<svg") == 2
    assert page.count('class="stroke faint') == 1
    assert page.count('class="band') == 0


def test_scores_that_no_test_tells_from_relu_are_hollow(report: ComparisonReport) -> None:
    rows = (
        make_row("relu", 0.5),
        make_row("noise", 0.4, p_value=0.05, family="a"),
        make_row("better", 0.3, p_value=0.049, family="a"),
        make_row("other", 0.2, family="b"),
    )
    drawn = frontier(dataclasses.replace(report, rows=rows))
    wide = drawn[drawn.index("<svg") : drawn.index("</svg>")]
    assert wide.count("hollow") == 1
    assert "hollow: the score cannot be told from ReLU" in drawn
    assert cells(rows[2])[-1] == "0.049 *"
    assert cells(rows[1])[-1] == "0.05"
    assert '<b class="c0">a</b> · <b class="c1">b</b>' in drawn
    assert "hollow" not in frontier(report)
    for label in ("relu", "noise", "better", "other"):
        assert f">{label}</text>" in wide


def test_settings_of_one_activation_are_joined() -> None:
    rows = [make_row(f"soft λ={i}", i / 10) for i in (3, 1, 2)] + [make_row("relu", 0.5)]
    assert [[row.label for row in line] for line in lines(rows)] == [
        ["soft λ=1", "soft λ=2", "soft λ=3"]
    ]
    assert lines(rows[1:]) == []


def test_an_annealed_training_is_one_line_with_one_label(
    report: ComparisonReport, tmp_path: Path
) -> None:
    points = [make_row(f"soft annealed {i}/3", 0.4 - i / 10, annealed=i) for i in (1, 2, 3)]
    labels = ["relu", *(row.label for row in points)]
    annealed = dataclasses.replace(
        report,
        rows=(make_row("relu", 0.5), *points),
        learning=tuple(LearningTrace(label, (0.1, 0.9)) for label in labels),
        densities=tuple(DensityTrace(label, "a", (0.1, 0.9)) for label in labels),
        lambdas=tuple(LambdaTrace(label, "a", (0.1, 0.9)) for label in labels[1:]),
    )
    drawn = frontier(annealed)
    wide = drawn[drawn.index("<svg") : drawn.index("</svg>")]
    assert [[row.annealed for row in line] for line in lines(annealed.rows)] == [[3, 2, 1]]
    assert wide.count("soft, annealed</text>") == 1
    assert "soft annealed 2/3</text>" not in wide
    assert "soft annealed 2/3: R² 0.200" in wide
    for panels, count in ((learning_curves, 2), (density_curves, 2), (lambda_curves, 1)):
        assert panels(annealed).count("<svg") == count
    assert heat_map(annealed.densities).count("--d:") == 4
    save_frontier(annealed, tmp_path / "a.png")


def test_good_scores_are_enlarged_beside_poor_ones(report: ComparisonReport) -> None:
    scores = [0.1, 0.95, 0.96, 0.97, 0.98]
    rows = [make_row(f"a{i}", 0.5, score=Spread(score, None)) for i, score in enumerate(scores)]
    assert [row.label for row in close_up(rows)] == ["a1", "a2", "a3", "a4"]
    assert close_up(rows[1:]) == []
    assert "enlarged" in frontier(dataclasses.replace(report, rows=tuple(rows)))
    assert "enlarged" not in frontier(report)


def test_the_printed_table_fits_and_names_what_it_lacks(report: ComparisonReport) -> None:
    wide = text_table(report, 200)
    assert "not shown" not in wide
    assert wide.splitlines()[0].split("  ")[0] == "setting"
    narrow = text_table(report, 80)
    assert max(map(len, narrow.splitlines())) <= 80
    assert "50.0 ± 1.0%" in narrow
    lacks = narrow.split("not shown: ")[1].replace("\n", " ").split(", ")
    shown = re.split(" {2,}", narrow.splitlines()[0])
    assert lacks == [name for name in header("R²") if name not in shown]
    assert len(lacks) > 2


@pytest.mark.parametrize("width", [60, 80, 100, 132, 160])
def test_no_cell_is_cut_off_on_a_terminal(report: ComparisonReport, width: int) -> None:
    table = fitting_table(report, width - 2)
    console = Console(width=width, record=True, file=io.StringIO())
    show(console, table.header, table.rows, title="title")
    lines = console.export_text().splitlines()
    for row in table.rows:
        assert any(line.split() == " ".join(row).split() for line in lines)
    assert set(table.header) | set(table.left_out) == set(header(report.score_name))


def test_a_notebook_shows_the_frontier_and_the_table(report: ComparisonReport) -> None:
    part = comparison_fragment(report)
    assert part.startswith('<div class="sparsact">')
    assert part.count('<svg class="chart') == 2
    assert part.count("<table>") == 1
    assert escape(report.title) in part
    assert "<script" not in part
    selectors = re.findall(r"^[^{}\n]+(?={)", part[: part.index("</style>")], flags=re.MULTILINE)
    assert selectors[0].strip() == ".sparsact"  # the rest is nested: the notebook keeps its look


def test_the_constant_prediction_is_the_last_row(report: ComparisonReport, tmp_path: Path) -> None:
    baseline = Baseline("most <frequent>", 0.4, 0.5)
    save_comparison(dataclasses.replace(report, baseline=baseline), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    table = page[page.index("<table>") : page.index("</table>")]
    rows = table.split("<tr")
    assert len(rows) == 2 + len(LABELS) + 1
    assert "<td>most &lt;frequent&gt;</td><td>0.500</td><td>–</td>" in rows[-1]
