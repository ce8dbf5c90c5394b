"""What the report of an autoencoder is made of: plain numbers and names."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Trace:
    """One line of a panel; NaN where there is nothing to draw."""

    name: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Panel:
    """Curves of a training over its steps.

    Attributes:
        title: what is drawn.
        steps: where each value stands.
        traces: the lines.
        logarithmic: whether the values are drawn on a logarithmic axis.
        target: a level that was aimed at.
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
    """Pieces of text around the place where a latent is most active.

    Attributes:
        pieces: the text of one token each, or of several that make up one character.
        activations: the latent's, for each piece; 0 where it is silent.
        peak: number of the piece with the largest magnitude.
    """

    pieces: tuple[str, ...]
    activations: tuple[float, ...]
    peak: int


@dataclass(frozen=True)
class Latent:
    """All that is shown of one latent.

    Attributes:
        index: its number in the dictionary.
        fired: inputs on which it is not zero.
        density: the share of them.
        mean: of its activations that are not zero; None if there are none, as the next two.
        peak: the activation of largest magnitude.
        histogram: of its activations that are not zero.
        contexts: where it is most active, from the largest magnitude down.
        neighbours: (index, cosine) of the latents whose decoder directions are nearest.
    """

    index: int
    fired: int
    density: float
    mean: float | None
    peak: float | None
    histogram: Bars | None
    contexts: tuple[Context, ...]
    neighbours: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class LatentGroup:
    """Latents that were chosen for one reason."""

    title: str
    latents: tuple[Latent, ...]


@dataclass(frozen=True)
class AutoencoderReport:
    """Everything on the page of one autoencoder.

    Attributes:
        title: of the page.
        facts: what was done, a line each.
        conclusion: what was found.
        figures: name and value of every held-out figure.
        panels: the curves of the training.
        densities: of log₁₀ of the density of the latents that fired.
        groups: the dashboards.
    """

    title: str
    facts: tuple[str, ...]
    conclusion: str
    figures: tuple[tuple[str, str], ...]
    panels: tuple[Panel, ...]
    densities: Bars | None
    groups: tuple[LatentGroup, ...]
