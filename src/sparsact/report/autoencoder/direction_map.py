"""The map of decoder directions: a point for each latent, a link for those with a dashboard."""

from collections.abc import Collection

from sparsact.report.autoencoder.autoencoder_records import DirectionMap

MAP_STYLE = """
svg.map { width: 100%; max-width: 46rem; display: block; background: transparent; }
svg.map circle { fill: var(--faint); opacity: .55; }
svg.map a circle { fill: var(--c0); opacity: 1; }
svg.map a:hover circle, svg.map a:focus circle { fill: var(--front); }
"""

SIZE = 1000, 560
EDGE = 20


def direction_map(directions: DirectionMap, shown: Collection[int]) -> str:
    """HTML of the map, under its heading."""
    first, second = ([point[axis] for point in directions.points] for axis in (1, 2))
    circles = [
        _circle(index, _place(x, first, SIZE[0]), _place(y, second, SIZE[1]), index in shown)
        for index, x, y in sorted(directions.points, key=lambda point: point[0] in shown)
    ]
    return (
        '<h2>Map of decoder directions</h2><p class="how">Each point is a latent; points with a '
        "dashboard are links. The plane is that of the two largest principal components, with "
        f"{directions.share:.0%} of the variance: near points can still differ.</p>"
        f'<svg class="map" viewBox="0 0 {SIZE[0]} {SIZE[1]}" role="img" '
        f'aria-label="map of {len(circles)} decoder directions">{"".join(circles)}</svg>'
    )


def _circle(index: int, x: float, y: float, is_shown: bool) -> str:
    if not is_shown:
        return f'<circle cx="{x:.0f}" cy="{y:.0f}" r="3"/>'
    return (
        f'<a href="#latent-{index}"><circle cx="{x:.0f}" cy="{y:.0f}" r="6"><title>latent {index}'
        "</title></circle></a>"
    )


def _place(value: float, values: list[float], size: int) -> float:
    low, high = min(values), max(values)
    share = (value - low) / (high - low) if high > low else 0.5
    return EDGE + share * (size - 2 * EDGE)
