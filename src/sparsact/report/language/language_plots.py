"""The interactive figures of a sparse language model."""

from sparsact.report.language.language_records import LanguageReport, QualityRow, SiteRow
from sparsact.report.palette import FRONT, INK, colours
from sparsact.report.plotly_figures import Figure, new_figure


def by_layer(report: LanguageReport) -> Figure:
    """Sparsity over the blocks, a line per kind of site."""
    figure = new_figure("share of weights not read, by block and kind of site", height=460)
    palette = colours(row.kind for row in report.kinds)
    for kind, sites in layers(report).items():
        figure.add_scatter(
            x=[site.layer for site in sites],
            y=[site.sparsity for site in sites],
            mode="lines+markers",
            line={"color": palette[kind]},
            name=kind,
        )
    blocks = {site.layer for site in report.sites}
    figure.update_xaxes(title="block", dtick=max(1, len(blocks) // 15))
    figure.update_yaxes(title="share of the weights not read", tickformat=".0%", range=[0, 1])
    return figure


def layers(report: LanguageReport) -> dict[str, list[SiteRow]]:
    """The sites of each kind that are in a block, in the order of the blocks."""
    kinds: dict[str, list[SiteRow]] = {}
    for site in report.sites:
        if site.layer is not None:
            kinds.setdefault(site.kind, []).append(site)
    return kinds


def loss(report: LanguageReport) -> Figure:
    """Perplexity, as a multiple of the dense model's, against sparsity."""
    figure = new_figure("perplexity against sparsity, with standard errors", height=460)
    for rows in curves(report):
        figure.add_scatter(
            x=[row.sparsity for row in rows],
            y=[1.0 if row.ratio is None else row.ratio.value for row in rows],
            error_y={
                "array": [0.0 if row.ratio is None else row.ratio.error or 0.0 for row in rows],
                "thickness": 1,
            },
            text=[row.label for row in rows],
            mode="lines+markers",
            line={"color": FRONT, "dash": "dot"},
            marker={"color": INK, "size": 9, "symbol": "diamond" if rows[0].apart else "circle"},
            name="compensated or tuned" if rows[0].apart else "perplexity / dense",
        )
    figure.update_xaxes(title="share of the weights not read", tickformat=".0%")
    figure.update_yaxes(title="perplexity / dense perplexity")
    return figure


def curves(report: LanguageReport) -> list[list[QualityRow]]:
    """The models from dense to sparse as one curve; each with changed weights by itself."""
    rows = sorted(report.quality, key=lambda row: row.sparsity)
    return [[row for row in rows if not row.apart], *([row] for row in rows if row.apart)]


def decode(report: LanguageReport) -> Figure:
    """Milliseconds per token of each model."""
    figure = new_figure("decoding one token", height=120 + 50 * len(report.decode))
    palette = colours(row.label for row in report.decode)
    rows = report.decode[::-1]  # bars are drawn from the bottom
    figure.add_bar(
        y=[row.label for row in rows],
        x=[row.ms for row in rows],
        error_x={
            "array": [row.high - row.ms for row in rows],
            "arrayminus": [row.ms - row.low for row in rows],
            "thickness": 1,
        },
        orientation="h",
        marker={"color": [palette[row.label] for row in rows]},
        showlegend=False,
    )
    figure.update_xaxes(title="ms per token (median; error bars: quartiles)", rangemode="tozero")
    return figure
