"""Messages of ``sparsact sae``; no process is started."""

import json

import numpy as np
import pytest
import torch

from sparsact.sae import (
    SAEConfig,
    SAETrainer,
    SparseAutoencoder,
    evaluate,
    load_sae,
    load_saelens,
    save_sae,
)

FLAGS = [
    *("--d-sae", "64", "--k", "4", "--batch-size", "64", "--held-out", "400", "--steps", "12"),
    *("--lr-warmup-steps", "5", "--sparsity-warmup-steps", "5", "--checkpoint-every", "10"),
]


@pytest.fixture
def sae(sparsact):
    """Runs one of its commands."""
    return lambda *arguments: sparsact("sae", *arguments)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "activations.npy"
    np.save(path, torch.randn(2000, 16, generator=torch.Generator().manual_seed(0)).numpy())
    return path


def test_a_missed_target_is_reported(sae, data, tmp_path, monkeypatch):
    flags = ("train", "--data", data, *FLAGS, "--held-out", "1200")  # of which 600 are measured
    flags = (*flags, "--activation", "relu", "--target-l0", "6", "--out")
    status, shown, _ = sae(*flags, tmp_path / "reached")
    assert status == 0
    assert "the target was" not in shown
    monkeypatch.setattr(SAETrainer, "reach_target", lambda self, held_out: 0.0)
    status, shown, _ = sae(*flags, tmp_path / "missed")
    assert status == 0
    assert "on held-out activations: the target was 6\n" in shown


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--batch-size", "0"], "--batch-size must be at least 1, got 0"),
        (["--batch-size", "-3"], "--batch-size must be at least 1, got -3"),
        (["--checkpoint-every", "0"], "--checkpoint-every must be at least 1"),
        (["--steps", "0"], "--steps must be at least 1"),
        (["--buffer-rows", "0"], "--buffer-rows must be at least 1"),
        (["--held-out", "0"], "--held-out must be at least 1"),
        (["--held-out", "-5"], "--held-out must be at least 1"),
        (
            ["--held-out", "1", "--target-l0", "5", "--activation", "relu"],
            "--held-out must be at least 2",
        ),
        (["--out", "{file}"], "is a file: choose another --out"),
        (["--data", "{file}"], "damaged.safetensors is not a complete safetensors file"),
    ],
)
def test_wrong_numbers_and_files(flags, message, sae, data, tmp_path):
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_text("x" * 1000)
    flags = [flag.format(file=damaged) for flag in flags]
    status, _, error = sae("train", "--data", data, *FLAGS, "--out", tmp_path / "run", *flags)
    assert status == 2
    assert message in error
    assert "space" not in error


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of which only the autoencoder exists."""
    folder = tmp_path_factory.mktemp("run")
    save_sae(SparseAutoencoder(SAEConfig(16, 48, k=4)), folder / "sae")
    (folder / "config.json").write_text('{"run": {}}')
    return folder


def test_a_run_can_be_given_in_place_of_its_autoencoder(run, sae, data, tmp_path):
    measured = [sae("eval", path, "--data", data) for path in (run, run / "sae")]
    assert measured[0] == measured[1]
    assert measured[0][0] == 0
    assert sae("export", run, tmp_path / "out")[0] == 0
    assert load_saelens(tmp_path / "out").config.d_sae == 48


def test_the_table_counts_latents_by_density(run, sae, data):
    shown = " ".join(sae("eval", run, "--data", data)[1].split())
    density = evaluate(load_sae(run / "sae"), [torch.from_numpy(np.load(data))]).density
    often = int((density >= 0.1).sum())
    assert 0 < often < 48
    assert f"latents of density 10% to 100% {often} latents of density 1% to 10% {48 - often}" in (
        shown
    )
    assert "explained_variance, around the mean" in shown


def test_all_rows_are_measured(run, sae, data, tmp_path):
    np.save(tmp_path / "one.npy", np.load(data)[:1])
    for path, rows in ((data, 2000), (tmp_path / "one.npy", 1)):
        status, shown, _ = sae("eval", run, "--data", path)
        assert status == 0
        assert shown.split()[:4] == ["figure", "value", "inputs", str(rows)]
    status, _, error = sae("eval", run, "--data", data, "--rows", "0")
    assert status == 2
    assert "--rows must be at least 1, got 0" in error


def test_a_run_resumes_only_with_its_own_data(sae, data, tmp_path):
    held = np.load(data)
    np.save(tmp_path / "x.npy", held)
    flags = ("train", "--data", tmp_path / "x.npy", *FLAGS, "--out", tmp_path / "run")
    assert sae(*flags)[0] == 0
    assert sae(*flags, "--resume", "--steps", "14")[0] == 0
    np.save(tmp_path / "x.npy", held[::-1] * 5)
    status, _, error = sae(*flags, "--resume", "--steps", "16")
    assert status == 2
    assert "was started on other activations than" in error


def test_values_that_are_not_finite_become_null(sae, tmp_path):
    np.save(tmp_path / "x.npy", np.ones((600, 16), np.float32))
    out = tmp_path / "run"
    assert sae("train", "--data", tmp_path / "x.npy", *FLAGS, "--out", out)[0] == 0
    lines = [*(out / "log.jsonl").read_text().splitlines(), (out / "metrics.json").read_text()]
    found = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert found[0]["fvu"] is None
    assert found[-1]["fvu"] is None
    assert "nan" in (out / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("place", ["sae", "checkpoint"])
def test_a_run_with_other_files_in_its_directories_does_not_resume(place, sae, data, tmp_path):
    flags = ("train", "--data", data, *FLAGS, "--out", tmp_path / "run")
    assert sae(*flags)[0] == 0
    log = (tmp_path / "run" / "log.jsonl").read_text()
    (tmp_path / "run" / place / "notes.txt").write_text("precious")
    status, _, error = sae(*flags, "--resume", "--steps", "30")
    assert status == 2
    assert f"run/{place} is not replaced, because it is not a directory of" in error
    assert (tmp_path / "run" / "log.jsonl").read_text() == log
