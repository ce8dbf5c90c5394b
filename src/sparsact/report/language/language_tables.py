"""The cells of the tables of a sparse language model, shared by the terminal and the page."""

from sparsact.report.language.language_records import DecodeRow, Estimate, KindRow, QualityRow

Cells = tuple[str, ...]

QUALITY: Cells = ("model", "sparsity", "perplexity", "ratio to dense")
DECODE: Cells = ("decode", "ms / token", "quartiles", "tokens / s", "weights read", "speed")
KINDS: Cells = ("input of", "sites", "share of weights", "sparsity", "least", "most")


def quality_cells(row: QualityRow) -> Cells:
    """The cells of one model."""
    ratio = "–" if row.ratio is None else f"{_estimate(row.ratio, '.3f')}×"
    return (row.label, f"{row.sparsity:.1%}", _estimate(row.perplexity, ".2f"), ratio)


def decode_cells(row: DecodeRow) -> Cells:
    """The cells of one model."""
    return (
        row.label,
        f"{row.ms:.2f}",
        f"{row.low:.2f} – {row.high:.2f}",
        f"{1e3 / row.ms:.1f}",
        f"{row.weight_bytes / 1e6:.4g} MB",
        f"{row.speed:.2f}×",
    )


def kind_cells(row: KindRow) -> Cells:
    """The cells of one kind of site."""
    return (
        row.kind,
        str(row.sites),
        *(f"{share:.1%}" for share in (row.share, row.mean, row.low, row.high)),
    )


def _estimate(estimate: Estimate, form: str) -> str:
    if estimate.error is None:
        return format(estimate.value, form)
    return f"{estimate.value:{form}} ± {estimate.error:{form}}"
