"""The content of an autoencoder's report: plain numbers and names."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Trace:
    """One line of a panel. NaN leaves a gap."""

    name: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Panel:
    """Curves of a training over its steps.

    Attributes:
        title: the quantity.
        steps: step of each value.
        traces: the lines.
        logarithmic: whether the axis of the values is logarithmic.
        target: a target value, drawn as a line.
    """

    title: str
    steps: tuple[float, ...]
    traces: tuple[Trace, ...]
    logarithmic: bool = False
    target: float | None = None


@dataclass(frozen=True)
class Bars:
    """Counts between consecutive edges."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Context:
    """Pieces of text around a peak of a latent.

    Attributes:
        pieces: text of one token each, or of several tokens that share a character.
        activations: the latent's activation on each piece.
        peak: index of the piece with the largest magnitude.
    """

    pieces: tuple[str, ...]
    activations: tuple[float, ...]
    peak: int


@dataclass(frozen=True)
class Latent:
    """The content of one dashboard.

    Attributes:
        index: index of the latent in the dictionary.
        fired: number of inputs on which it is active.
        density: share of inputs on which it is active.
        mean: mean of its activations that are not zero; None if there are none.
        peak: activation with the largest magnitude; None if there is none.
        histogram: histogram of its activations that are not zero; None if there are none.
        contexts: where it is most active, by decreasing magnitude.
        neighbours: (index, cosine) of the latents with the nearest decoder directions.
        quantiles: places at falling quantiles of its activations that are not zero.
        promoted: (token, logit) that its decoder direction raises most through the model's head.
        suppressed: (token, logit) that it lowers most.
        counterpart: (index, cosine) of the nearest latent of another autoencoder.
    """

    index: int
    fired: int
    density: float
    mean: float | None
    peak: float | None
    histogram: Bars | None
    contexts: tuple[Context, ...]
    neighbours: tuple[tuple[int, float], ...]
    quantiles: tuple[Context, ...] = ()
    promoted: tuple[tuple[str, float], ...] = ()
    suppressed: tuple[tuple[str, float], ...] = ()
    counterpart: tuple[int, float] | None = None


@dataclass(frozen=True)
class LatentGroup:
    """Latents that were chosen for the same reason."""

    title: str
    latents: tuple[Latent, ...]


@dataclass(frozen=True)
class DirectionMap:
    """Decoder directions as points in a plane.

    Attributes:
        points: index of the latent and its two coordinates.
        share: share of the directions' variance that the plane holds.
    """

    points: tuple[tuple[int, float, float], ...]
    share: float


@dataclass(frozen=True)
class DictionaryComparison:
    """How the directions of another autoencoder match.

    Attributes:
        other: name of the other autoencoder.
        figures: name and value of each figure.
        cosines: histogram of the cosine of each latent with the nearest one of the other.
    """

    other: str
    figures: tuple[tuple[str, str], ...]
    cosines: Bars


@dataclass(frozen=True)
class AutoencoderReport:
    """The content of an autoencoder's page.

    Attributes:
        title: title of the page.
        facts: what was done, a line each.
        conclusion: the result, in a sentence.
        figures: name and value of every held-out figure.
        panels: curves of the training.
        densities: histogram of log₁₀ density, for latents that fired.
        groups: the dashboards.
        directions: the map of decoder directions.
        comparison: with another autoencoder.
    """

    title: str
    facts: tuple[str, ...]
    conclusion: str
    figures: tuple[tuple[str, str], ...]
    panels: tuple[Panel, ...]
    densities: Bars | None
    groups: tuple[LatentGroup, ...]
    directions: DirectionMap | None = None
    comparison: DictionaryComparison | None = None
