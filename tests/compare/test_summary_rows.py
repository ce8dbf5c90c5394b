"""The table of a comparison from hand-made trainings."""

import pytest

from sparsact.compare.results.summary_rows import summarise
from sparsact.compare.settings.training_plan import Setting
from sparsact.compare.training.training import LayerRecord, TrialRecord
from sparsact.report.comparison.comparison_records import SettingRow

RELU, SOFT, HARD = Setting("relu"), Setting("softshrink", 0.5), Setting("hardshrink", 0.5)
LEARNED = Setting("learned_softshrink", 0.5)


def layer(units: int, density: float, lambd: float | None = None) -> LayerRecord:
    return LayerRecord(units, density, density * units, 0.1, 1.0, 0.2, lambd, 1.0, (1, 1))


def trial(
    setting: Setting,
    *,
    seed: int = 0,
    validation: tuple[float, ...] = (0.5,),
    density: float = 0.5,
    test: float | None = None,
    test_density: float | None = None,
) -> TrialRecord:
    return TrialRecord(
        setting=setting.label,
        seed=seed,
        status="finished",
        validation_scores=validation,
        densities=tuple((density,) for _ in validation),
        test_score=validation[-1] if test is None else test,
        layers=(layer(10, density if test_density is None else test_density),),
        skipped_steps=0,
    )


def diverged(setting: Setting, seed: int = 0) -> TrialRecord:
    return TrialRecord(setting.label, seed, "diverged", (), (), None, (), 0)


def rows_of(*records: TrialRecord, tolerance: float = 0.01) -> dict[str, SettingRow]:
    rows = summarise([RELU, SOFT, HARD, LEARNED], records, {"relu": 1.0}, tolerance)
    return {row.activation: row for row in rows}


def picked(rows: dict[str, SettingRow]) -> list[str]:
    return [name for name, row in rows.items() if row.picked]


def front(rows: dict[str, SettingRow]) -> set[str]:
    return {name for name, row in rows.items() if row.on_front}


@pytest.mark.parametrize(
    ("tolerance", "choice"), [(0.0, "relu"), (0.05, "softshrink"), (0.2, "hardshrink")]
)
def test_pick_is_the_sparsest_within_the_tolerance(tolerance: float, choice: str) -> None:
    rows = rows_of(
        trial(RELU, validation=(0.9,), density=0.5),
        trial(SOFT, validation=(0.87,), density=0.3),
        trial(HARD, validation=(0.75,), density=0.1),
        tolerance=tolerance,
    )
    assert picked(rows) == [choice]


def test_pick_is_made_on_the_validation_part() -> None:
    rows = rows_of(
        trial(RELU, validation=(0.9,), density=0.5, test=0.1, test_density=0.9),
        trial(SOFT, validation=(0.5,), density=0.4, test=1.0, test_density=0.1),
    )
    assert picked(rows) == ["relu"]


def test_pick_takes_the_last_epoch_and_the_mean_over_seeds() -> None:
    rows = rows_of(
        trial(RELU, validation=(0.99, 0.6)),
        trial(RELU, seed=1, validation=(0.99, 0.6)),
        trial(SOFT, validation=(0.1, 0.9)),
        trial(SOFT, seed=1, validation=(0.1, 0.5)),
    )
    assert picked(rows) == ["softshrink"]


def test_ties_in_density_go_to_the_better_score() -> None:
    rows = rows_of(trial(RELU, validation=(0.895,)), trial(SOFT, validation=(0.9,)))
    assert picked(rows) == ["softshrink"]


def test_pareto_front_by_hand() -> None:
    rows = rows_of(
        trial(RELU, test=0.9, test_density=0.5),
        trial(SOFT, test=0.8, test_density=0.3),
        trial(HARD, test=0.7, test_density=0.4),  # beaten in both by softshrink
        trial(LEARNED, test=0.9, test_density=0.6),  # as good as ReLU but denser
    )
    assert front(rows) == {"relu", "softshrink"}


def test_pareto_front_of_equal_density_keeps_the_better() -> None:
    rows = rows_of(trial(RELU, test=0.8), trial(SOFT, test=0.9))
    assert front(rows) == {"softshrink"}


def test_diverged_trainings_are_counted_but_in_no_mean() -> None:
    rows = rows_of(
        trial(RELU, validation=(0.8,)),
        trial(SOFT, validation=(0.9,), density=0.1),
        diverged(SOFT, seed=1),
        diverged(HARD),
    )
    soft, hard = rows["softshrink"], rows["hardshrink"]
    assert (soft.trainings, soft.diverged) == (2, 1)
    assert soft.score is not None
    assert (soft.score.mean, soft.score.sd) == (0.9, None)
    assert (hard.trainings, hard.diverged) == (1, 1)
    assert hard.score is hard.density is hard.dead is hard.epochs_to_reference is None
    assert picked(rows) == ["relu"]  # a setting that may diverge is not recommended
    assert not hard.on_front


def test_nothing_is_picked_if_all_diverged() -> None:
    rows = rows_of(diverged(RELU), diverged(SOFT))
    assert picked(rows) == []
    assert front(rows) == set()


def test_epochs_to_95_percent_of_relu() -> None:
    rows = rows_of(
        trial(RELU, validation=(0.1, 0.94, 0.96, 1.0)),  # the aim is 0.95
        trial(SOFT, validation=(0.95, 0.2, 0.2, 0.2)),
        trial(HARD, validation=(0.5, 0.6, 0.7, 0.9)),
        trial(LEARNED, validation=(0.5, 1.0, 0.7, 0.9)),
        trial(LEARNED, seed=1, validation=(0.5, 0.6, 0.7, 0.9)),
    )
    epochs = {name: row.epochs_to_reference for name, row in rows.items()}
    assert epochs["relu"] is not None
    assert epochs["relu"].mean == 3
    assert epochs["softshrink"] is not None
    assert epochs["softshrink"].mean == 1
    assert epochs["hardshrink"] is None
    assert epochs["learned_softshrink"] is None  # one of the seeds never gets there


@pytest.mark.parametrize("records", [(trial(RELU, validation=(-0.5,)),), (diverged(RELU),)])
def test_no_reference_without_a_positive_relu_score(records: tuple[TrialRecord, ...]) -> None:
    rows = rows_of(*records, trial(SOFT))
    assert rows["softshrink"].epochs_to_reference is None


def test_layers_are_weighted_by_their_units() -> None:
    record = TrialRecord(
        LEARNED.label,
        0,
        "finished",
        (0.5,),
        ((0.5, 0.1),),
        0.5,
        (layer(30, 0.5, lambd=0.2), layer(10, 0.1, lambd=1.0)),
        0,
    )
    row = rows_of(record)["learned_softshrink"]
    assert record.validation_density == pytest.approx(0.4)
    assert row.density is not None
    assert row.density.mean == pytest.approx(0.4)
    assert row.learned_lambda is not None
    assert row.learned_lambda.mean == pytest.approx(0.4)


def test_spread_is_the_sample_standard_deviation() -> None:
    row = rows_of(trial(RELU, test=0.4), trial(RELU, seed=1, test=0.6))["relu"]
    assert row.score is not None
    assert row.score.mean == pytest.approx(0.5)
    assert row.score.sd == pytest.approx(0.02**0.5)
    assert row.step_ratio == 1.0
    assert row.learned_lambda is None


def test_settings_without_trainings_have_no_row() -> None:
    assert list(rows_of(trial(SOFT))) == ["softshrink"]
