"""The figures of a sparse language model."""

from sparsact.report.charts.axis import linear_axis, named_axis
from sparsact.report.charts.chart import Chart
from sparsact.report.language.language_records import LanguageReport, QualityRow, SiteRow
from sparsact.report.palette import classes

WIDTH, HEIGHT = 560, 320


def by_layer(report: LanguageReport) -> Chart:
    """Sparsity over the blocks, a line per kind of site."""
    colours = classes(row.kind for row in report.kinds)
    kinds = layers(report)
    blocks = [float(site.layer or 0) for sites in kinds.values() for site in sites]
    x = linear_axis(blocks, "block", whole=True, padding=0.02, most=12)
    y = linear_axis((0.0, 1.0), "share of the weights not read", percent=True, padding=0, zero=True)
    chart = Chart(x, y, WIDTH, HEIGHT, "share of weights not read, by block and kind of site")
    for kind, sites in kinds.items():
        places = [float(site.layer or 0) for site in sites]
        chart.line(places, [site.sparsity for site in sites], colours[kind], key=kind)
        for place, site in zip(places, sites, strict=True):
            chart.point(
                place, site.sparsity, colours[kind], hint=f"{site.name}: {site.sparsity:.1%}"
            )
    return chart


def layers(report: LanguageReport) -> dict[str, list[SiteRow]]:
    """The sites of each kind that are in a block, in the order of the blocks."""
    kinds: dict[str, list[SiteRow]] = {}
    for site in report.sites:
        if site.layer is not None:
            kinds.setdefault(site.kind, []).append(site)
    return kinds


def loss(report: LanguageReport) -> Chart:
    """Perplexity, as a multiple of the dense model's, against sparsity."""
    ratios = [_ratio(row) for row in report.quality]
    y = linear_axis(
        [value + sign * error for value, error in ratios for sign in (-1, 1)],
        "perplexity / dense perplexity",
    )
    x = linear_axis(
        [row.sparsity for row in report.quality], "share of the weights not read", percent=True
    )
    chart = Chart(x, y, WIDTH, HEIGHT, "perplexity against sparsity")
    for rows in curves(report):
        if len(rows) > 1:
            values = [_ratio(row)[0] for row in rows]
            chart.line([row.sparsity for row in rows], values, "front", style="dotted")
        for row in rows:
            value, error = _ratio(row)
            chart.point(
                row.sparsity,
                value,
                "front" if row.apart else "ink",
                errors=(0.0, error),
                style="star" if row.apart else "",
                label=row.label,
                hint=f"{row.label}: {value:.3f} × dense",
            )
    chart.write_labels()
    return chart


def _ratio(row: QualityRow) -> tuple[float, float]:
    """The ratio to the dense model's perplexity, and its standard error."""
    return (1.0, 0.0) if row.ratio is None else (row.ratio.value, row.ratio.error or 0.0)


def curves(report: LanguageReport) -> list[list[QualityRow]]:
    """The models from dense to sparse as one curve; each with changed weights by itself."""
    rows = sorted(report.quality, key=lambda row: row.sparsity)
    return [[row for row in rows if not row.apart], *([row] for row in rows if row.apart)]


def decode(report: LanguageReport) -> Chart:
    """Milliseconds per token of each model."""
    rows = report.decode
    x = linear_axis((row.high for row in rows), "ms per token; thin: quartiles", zero=True)
    y = named_axis(row.label for row in rows)
    chart = Chart(x, y, WIDTH, 60 + 34 * max(1, len(rows)), "decoding one token")
    colours = classes(row.label for row in rows)
    for i, row in enumerate(rows):
        hint = f"{row.label}: {row.ms:.2f} ms ({row.low:.2f} to {row.high:.2f})"
        chart.bar((0.0, row.ms), (i - 0.3, i + 0.3), colours[row.label], hint)
        chart.bar((row.low, row.high), (i - 0.05, i + 0.05), "ink", hint)
    return chart
