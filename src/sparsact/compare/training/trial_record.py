"""The record of one training."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerRecord:
    """The activations of one layer on the test part, at the end of training."""

    units: int
    density: float
    l0: float
    dead: float
    mean_magnitude: float
    zero_gradient: float
    lambd: float | None
    limit: float
    counts: tuple[int, ...]
    name: str = ""


@dataclass(frozen=True)
class TrialRecord:
    """The result of one training. Scores and layers are empty or None if it diverged.

    Attributes:
        setting: label of the setting.
        seed: of the initial weights and of the order of the batches.
        status: ``"finished"`` or ``"diverged"``.
        validation_scores: one per epoch.
        densities: per epoch, the density of each layer on the validation part.
        test_score: at the end.
        layers: one per place whose activation is compared.
        skipped_steps: steps without an update because the gradient was not finite.
        multiply_adds: per sample of the test part, in linear layers and convolutions.
        needed_multiply_adds: those whose input is not zero.
        lambdas: per epoch, the mean |λ| of each layer; empty if λ is not trained.
        annealed: the number of the point, if it is one of a training whose λ, k or penalty rises.
        value: the λ, k or coefficient at that point.
    """

    setting: str
    seed: int
    status: str
    validation_scores: tuple[float, ...]
    densities: tuple[tuple[float, ...], ...]
    test_score: float | None
    layers: tuple[LayerRecord, ...]
    skipped_steps: int
    multiply_adds: float | None = None
    needed_multiply_adds: float | None = None
    lambdas: tuple[tuple[float, ...], ...] = ()
    annealed: int | None = None
    value: float | None = None

    @property
    def validation_score(self) -> float:
        """The score at the last epoch."""
        return self.validation_scores[-1]

    @property
    def validation_density(self) -> float:
        """The density over all layers, at the last epoch."""
        return self.over_layers(self.densities[-1])

    def over_layers(self, values: tuple[float, ...]) -> float:
        """Mean of a value per layer, weighted by the units."""
        units = [layer.units for layer in self.layers]
        return sum(v * n for v, n in zip(values, units, strict=True)) / sum(units)
