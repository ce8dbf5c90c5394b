"""The sites of a language model grouped by their place within a block."""

from collections.abc import Iterable, Mapping, Sequence

from sparsact.calibration import InputSite
from sparsact.calibration.sites import enclosing_blocks
from sparsact.report.language.language_records import KindRow, SiteRow

TOTAL = "all"


def site_rows(sites: Iterable[InputSite], achieved: Mapping[str, float]) -> tuple[SiteRow, ...]:
    """A row for each site with a measured sparsity."""
    return tuple(_row(site, achieved[site.name]) for site in sites if site.name in achieved)


def kind_rows(rows: Sequence[SiteRow]) -> tuple[KindRow, ...]:
    """A row for the sites of each kind, and a last one for all sites."""
    kinds: dict[str, list[SiteRow]] = {}
    for row in rows:
        kinds.setdefault(row.kind, []).append(row)
    weights = sum(row.weights for row in rows)
    return tuple(
        KindRow(
            kind=kind,
            sites=len(members),
            share=sum(row.weights for row in members) / weights,
            mean=sum(row.weights * row.sparsity for row in members)
            / sum(row.weights for row in members),
            low=min(row.sparsity for row in members),
            high=max(row.sparsity for row in members),
        )
        for kind, members in [*kinds.items(), (TOTAL, list(rows))]
    )


def _row(site: InputSite, sparsity: float) -> SiteRow:
    block = enclosing_blocks(site.name)[0]
    return SiteRow(
        name=site.name,
        kind=site.label.removeprefix(f"{block}.") if block else site.label,
        layer=int(block.rpartition(".")[2]) if block else None,
        weights=site.weights,
        sparsity=sparsity,
    )
