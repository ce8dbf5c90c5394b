"""What a run measures at its end, and what it says about it."""

import json
import random

import numpy as np
import pytest
import torch

from sparsact._common.errors import InputError
from sparsact.sae import (
    SAETrainConfig,
    TrainedOn,
    evaluate,
    harvest,
    load_sae,
    open_rows,
    pack_tokens,
)
from sparsact.sae.data.activation_source import ActivationSource
from sparsact.sae.training.run_settings import SAERun
from sparsact.sae.training.training_run import train_run
from tiny_language import llama

ROWS = 3000


@pytest.fixture(scope="module")
def acts(tmp_path_factory):
    """Sparse sums of directions whose mean drifts: the last rows differ from the others."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(24, 16, generator=generator)
    active = torch.rand(ROWS, 24, generator=generator) < 0.1
    rows = (torch.rand(ROWS, 24, generator=generator) * active) @ directions
    path = tmp_path_factory.mktemp("data") / "acts.npy"
    np.save(path, (rows + torch.linspace(0, 3, ROWS)[:, None]).numpy())
    return path


def run(acts, out, training=None, **changes):
    sizes = {"d_sae": 64, "k": 4, "steps": 30, "batch_size": 128, "held_out": 500}
    return SAERun(
        ActivationSource(data=str(acts)),
        SAETrainConfig(**{"lr": 3e-3, **(training or {})}),
        out=str(out),
        **{**sizes, **changes},
    )


def test_all_held_out_rows_are_measured_and_drawn_at_random(acts, tmp_path):
    result = train_run(run(acts, tmp_path / "run", {"seed": 3}))
    places = sorted(random.Random(3).sample(range(ROWS), 500))
    rows = torch.from_numpy(np.load(acts))
    expected = evaluate(load_sae(tmp_path / "run" / "sae"), [rows[places]])
    assert result.metrics.inputs == 500
    assert result.metrics.fvu == pytest.approx(expected.fvu, rel=1e-5)
    assert result.metrics.silent == expected.silent
    others = torch.ones(ROWS, dtype=torch.bool)
    others[places] = False
    train, held_out = open_rows(acts).split(500, 3)
    assert torch.equal(held_out, rows[places])
    assert torch.equal(torch.cat([shard.read() for shard in train.shards]), rows[others])
    figures = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert figures["inputs"] == 500
    assert figures["passes"] == pytest.approx(30 * 128 / 2500)
    assert figures["train_fvu"] == pytest.approx(result.train_fvu)
    assert figures["notes"] == list(result.notes)


def test_with_a_target_one_half_sets_it(acts, tmp_path):
    result = train_run(
        run(acts, tmp_path / "run", {"target_l0": 6.0}, activation="relu", held_out=501)
    )
    assert result.metrics.inputs == 250


def test_dead_means_the_same_in_the_log_and_in_the_figures(acts, tmp_path):
    for dead_after in (300, 1_000_000):
        out = tmp_path / str(dead_after)
        result = train_run(run(acts, out, {"dead_after": dead_after}, held_out=50, k=1))
        last = json.loads((out / "log.jsonl").read_text().splitlines()[-1])
        assert result.metrics.dead == last["dead"] / 64
        assert json.loads((out / "metrics.json").read_text())["dead"] == result.metrics.dead
        assert result.metrics.silent > 0  # few rows: many latents are silent, not dead
        assert (result.metrics.dead > 0) == (dead_after == 300)


def test_a_dense_code_is_reported(acts, tmp_path):
    result = train_run(run(acts, tmp_path / "dense", activation="relu"))
    note = f"the code is not sparse: {result.metrics.l0:.4g} of 64 latents are active at a time"
    assert any(line.startswith(note) and "--target-l0" in line for line in result.notes)
    for name, changes in (("topk", {}), ("relu", {"target_l0": 5.0})):
        others = train_run(run(acts, tmp_path / name, changes, activation=name, held_out=1500))
        assert not any("not sparse" in line for line in others.notes)


def test_overfitting_is_reported(acts, tmp_path):
    few = tmp_path / "few.npy"
    np.save(few, np.load(acts)[::10])
    result = train_run(run(few, tmp_path / "few", steps=300, batch_size=100, held_out=150))
    assert result.metrics.fvu > 1.25 * result.train_fvu
    (note,) = [line for line in result.notes if line.startswith("overfitting")]
    assert "each used 200 times" in note
    many = train_run(run(acts, tmp_path / "many", steps=40))
    assert not any(line.startswith("overfitting") for line in many.notes)


def test_a_resampling_that_never_happens_is_reported(acts, tmp_path):
    for every, expected in ((30, True), (25, True), (24, False), (10, False)):
        out = tmp_path / str(every)
        result = train_run(run(acts, out, {"resample_every": every}))
        assert any("no latents were resampled" in line for line in result.notes) == expected


def test_skipped_steps_are_reported(acts, tmp_path, monkeypatch):
    monkeypatch.setattr("sparsact.sae.training.sae_trainer.move_", lambda *_: (float("inf"), 0.0))
    result = train_run(run(acts, tmp_path / "run", steps=3))
    assert any("3 of 3 steps were skipped" in line for line in result.notes)


def test_a_row_with_nan_is_named_with_its_file(acts, tmp_path):
    """Wherever it is: held out, in training, or in the sample that recognises the data."""
    folder = tmp_path / "acts"
    folder.mkdir()
    whole = np.load(acts)
    for row in (0, 700, 1999):
        for number, part in enumerate((whole[:1000], whole[1000:])):
            spoilt = part.copy()
            if number == row // 1000:
                spoilt[row % 1000, 5] = np.inf if row == 700 else np.nan
            np.save(folder / f"part_{number}.npy", spoilt)
        out = tmp_path / str(row)
        name = rf"row {row % 1000} of .*part_{row // 1000}\.npy has NaN or infinity"
        with pytest.raises(InputError, match=name):
            train_run(run(folder, out))
        np.save(folder / f"part_{row // 1000}.npy", whole[: 1000 if row < 1000 else 2000])


def test_a_decay_longer_than_the_run_is_refused(acts, tmp_path):
    with pytest.raises(InputError, match="lr_decay_steps=31 exceeds steps=30"):
        train_run(run(acts, tmp_path / "run", {"lr_decay_steps": 31}))


def test_a_run_of_the_version_that_held_out_the_last_rows_is_refused(acts, tmp_path):
    train_run(run(acts, tmp_path / "run"))
    file = tmp_path / "run" / "config.json"
    state = json.loads(file.read_text())
    del state["held_out"]
    file.write_text(json.dumps(state))
    with pytest.raises(InputError, match="held out the last activations"):
        train_run(run(acts, tmp_path / "run", resume=True))


def test_the_file_says_what_it_was_trained_on(acts, tmp_path):
    train_run(run(acts, tmp_path / "run", {"seed": 3}))
    trained_on = load_sae(tmp_path / "run" / "sae").trained_on
    digest = open_rows(acts).fingerprint()
    assert trained_on == TrainedOn(data=digest, held_out=500, seed=3)


def test_harvested_activations_say_where_they_come_from(tmp_path):
    model = llama()
    tokens = pack_tokens(torch.randint(3, 32, (1500,)).tolist(), 50)
    harvest(model, "model.layers.0", tokens, tmp_path / "acts")
    train_run(run(tmp_path / "acts", tmp_path / "run", steps=4, held_out=100))
    trained_on = load_sae(tmp_path / "run" / "sae").trained_on
    assert (trained_on.layer, trained_on.skip) == ("model.layers.0", tokens.skip)
    trained_on.check(TrainedOn.of(model, "model.layers.0"))
    with pytest.raises(InputError, match="not on the output of 'model"):
        trained_on.check(TrainedOn.of(model, "model.layers.1"))
