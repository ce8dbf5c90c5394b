"""The records of a comparison: plain numbers and names."""

from dataclasses import dataclass

from sparsact.report.palette import classes

SIGNIFICANT = 0.05
"""A p-value below this is marked."""


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over seeds (None for a single one)."""

    mean: float
    sd: float | None


@dataclass(frozen=True)
class Baseline:
    """What a constant prediction scores, on the validation part and on the test part."""

    label: str
    validation_score: float
    score: float


@dataclass(frozen=True)
class SettingRow:
    """One setting of a comparison, over its seeds. A value is None if it was not measured.

    Attributes:
        label: unique name of the setting.
        activation: which activation it uses.
        trainings: number of trainings.
        diverged: how many of them diverged; the means leave them out.
        score: on the test part.
        density: share of non-zero activations over all hidden layers, on the test part.
        dead: share of units that are zero for every test sample.
        zero_gradient: share of units that receive no gradient, averaged over test samples.
        epochs_to_reference: first epoch with 95% of ReLU's final validation score.
        step_ratio: step time over ReLU's.
        learned_lambda: mean |λ| at the end, if learned.
        on_front: no other setting is both sparser and better.
        picked: the sparsest setting within the tolerance.
        score_error: standard error of the mean score.
        p_value: of a paired t-test of the scores against ReLU's, over the seeds; adjusted for the
            number of settings, by Benjamini and Hochberg.
        validation_score: the mean, by which the choice is made.
        multiply_adds: per sample, in linear layers and convolutions.
        needed_multiply_adds: those whose input is not zero, the mean over the seeds.
        annealed: the number of the point, if it is one of a training whose λ, k or penalty changes
            step by step; such a training makes all points of an activation.
        value: the λ, k or coefficient there, the mean over the seeds.
        batch_ms: median milliseconds of a forward of a batch, with dense layers.
        sample_ms: that of one sample, with dense layers.
        sparse_sample_ms: that of one sample, with linear layers that skip zeros, if it is faster.
        family: of the activation: settings of one family have one colour.
    """

    label: str
    activation: str
    trainings: int
    diverged: int
    score: Spread | None
    density: Spread | None
    dead: Spread | None
    zero_gradient: Spread | None
    epochs_to_reference: Spread | None
    step_ratio: float | None
    learned_lambda: Spread | None
    on_front: bool
    picked: bool
    score_error: float | None = None
    p_value: float | None = None
    validation_score: float | None = None
    multiply_adds: float | None = None
    needed_multiply_adds: float | None = None
    annealed: int | None = None
    value: float | None = None
    batch_ms: float | None = None
    sample_ms: float | None = None
    sparse_sample_ms: float | None = None
    family: str = ""

    @property
    def differs(self) -> bool:
        """Whether the score differs from ReLU's by more than the noise of the seeds."""
        return self.p_value is not None and self.p_value < SIGNIFICANT


@dataclass(frozen=True)
class LearningTrace:
    """Validation score over the epochs, for one setting: mean and spread over its seeds."""

    label: str
    score: tuple[float, ...]
    sd: tuple[float, ...] | None = None


@dataclass(frozen=True)
class LambdaTrace:
    """Mean |λ| of one layer over the epochs, for one setting; the mean over its seeds."""

    label: str
    layer: str
    lambd: tuple[float, ...]


@dataclass(frozen=True)
class DensityTrace:
    """Density of one layer over the epochs, for one setting; the mean over its seeds."""

    label: str
    layer: str
    density: tuple[float, ...]


@dataclass(frozen=True)
class HistogramTrace:
    """Share of one layer's sampled non-zero activations per bin, for one setting."""

    label: str
    layer: str
    centres: tuple[float, ...]
    share: tuple[float, ...]


@dataclass(frozen=True)
class Curve:
    """A function and its gradient on a grid."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    slope: tuple[float, ...]


@dataclass(frozen=True)
class ComparisonReport:
    """Everything on the page of one comparison; `notes` are among the facts too."""

    title: str
    facts: tuple[str, ...]
    conclusion: str
    score_name: str
    rows: tuple[SettingRow, ...]
    densities: tuple[DensityTrace, ...]
    histograms: tuple[HistogramTrace, ...]
    curves: tuple[Curve, ...]
    baseline: Baseline | None = None
    notes: tuple[str, ...] = ()
    learning: tuple[LearningTrace, ...] = ()
    lambdas: tuple[LambdaTrace, ...] = ()

    def trained(self) -> set[str]:
        """The labels without the later points of annealed trainings, which go on from the first."""
        return {row.label for row in self.rows if row.annealed in (None, 1)}

    def classes(self) -> dict[str, str]:
        """The class of the page's style sheet that colours each setting: one for a family."""
        of_family = classes(row.family for row in self.rows if row.family)
        return {
            row.label: "ink" if row.activation == "relu" else of_family.get(row.family, "muted")
            for row in self.rows
        }
