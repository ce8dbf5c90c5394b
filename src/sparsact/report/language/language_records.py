"""The records of a language model's report: plain numbers and names."""

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
        label: the model.
        sparsity: share of the sites' weight bytes that it does not read, on this text.
        perplexity: with the error from the choice of windows.
        ratio: to the dense model's perplexity, window by window; None for the dense model.
        apart: whether its weights are changed too; plots do not connect it with other models.
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
        name: the first layer that reads it.
        kind: its place within a block, the same in every block.
        layer: number of the block; None for a site outside of blocks.
        weights: number of weights of its readers.
        sparsity: share of these weights that is not read.
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
        sites: number of sites.
        share: their share of all sites' weights.
        mean: sparsity, weighted by the number of weights.
        low: sparsity of the least sparse site.
        high: sparsity of the sparsest site.
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
        label: the model.
        ms: median milliseconds.
        low: lower quartile.
        high: upper quartile.
        weight_bytes: bytes of weights read for a token.
        speed: relative to the fastest dense model.
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
