"""What the report of a sparse language model is made of: plain numbers and names."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A mean over windows of text, and its standard error (None for a single window)."""

    value: float
    error: float | None


@dataclass(frozen=True)
class QualityRow:
    """Perplexity of one model.

    Attributes:
        label: which.
        sparsity: share of the weight bytes of the sites that it does not read, on this text.
        perplexity: its own error is that of the choice of windows.
        ratio: to the dense model's, window by window; None for the dense model itself.
        apart: whether its weights are changed too: it is on no line with what is calibrated alone.
    """

    label: str
    sparsity: float
    perplexity: Estimate
    ratio: Estimate | None
    apart: bool = False


@dataclass(frozen=True)
class SiteRow:
    """One tensor that linear layers read.

    Attributes:
        name: of the first layer that reads it.
        kind: its place within a block, the same in every block.
        layer: number of the block; None for a site that is in none.
        weights: that read it.
        sparsity: share of them that is not read.
    """

    name: str
    kind: str
    layer: int | None
    weights: int
    sparsity: float


@dataclass(frozen=True)
class KindRow:
    """The sites of one kind over all blocks, or of all kinds.

    Attributes:
        kind: its name.
        sites: how many there are.
        share: of the weights of all sites that are theirs.
        mean: sparsity, counted by weights.
        low: the least sparse site.
        high: the sparsest.
    """

    kind: str
    sites: int
    share: float
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class DecodeRow:
    """Time of generating one token.

    Attributes:
        label: which model.
        ms: median milliseconds.
        low: the lower quartile.
        high: the upper.
        weight_bytes: read for a token.
        speed: times as fast as the fastest dense model.
    """

    label: str
    ms: float
    low: float
    high: float
    weight_bytes: int
    speed: float


@dataclass(frozen=True)
class LanguageReport:
    """Everything on the page of one sparse language model."""

    title: str
    facts: tuple[str, ...]
    conclusion: str
    quality: tuple[QualityRow, ...]
    decode: tuple[DecodeRow, ...]
    kinds: tuple[KindRow, ...]
    sites: tuple[SiteRow, ...]
