"""``sparsact sae train`` under torchrun, and what trackers get."""

import json
import sys

import numpy as np
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from two_processes import run_on_two

FLAGS = [
    *("--d-sae", "63", "--k", "4", "--batch-size", "64", "--held-out", "400", "--steps", "30"),
    *("--lr-warmup-steps", "10", "--sparsity-warmup-steps", "10", "--checkpoint-every", "10"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "activations.npy"
    np.save(path, torch.randn(2000, 16, generator=torch.Generator().manual_seed(0)).numpy())
    return path


def curve(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.skipif(not dist.is_gloo_available(), reason="torch was built without gloo")
def test_two_processes_write_what_one_does(data, sparsact, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    two, one = tmp_path / "two", tmp_path / "one"
    command = ("sae", "train", "--data", data, *FLAGS)
    trackers = ("--trackers", "tensorboard", "wandb")
    run_on_two("-m", "sparsact.cli", *command, "--out", two, "--shard", *trackers)
    assert sparsact(*command, "--out", one)[0] == 0
    expected = curve(one)
    assert [line["step"] for line in curve(two)] == list(range(1, 31))
    for found, line in zip(curve(two), expected, strict=True):
        assert found == pytest.approx(line, rel=1e-5, abs=1e-6)
    metrics = [json.loads((out / "metrics.json").read_text()) for out in (two, one)]
    assert metrics[0]["fvu"] == pytest.approx(metrics[1]["fvu"], rel=1e-4)
    for file in ("sae/sae.safetensors", "checkpoint/state.safetensors"):
        tensors, others = load_file(two / file), load_file(one / file)
        assert tensors.keys() == others.keys()
        for name, tensor in tensors.items():
            assert torch.allclose(tensor, others[name], rtol=1e-3, atol=1e-4), name
    assert list(two.glob("wandb/offline-run-*/*.wandb"))
    assert logged(two) == pytest.approx([line["loss"] for line in expected], rel=1e-4)
    for out in (two, one):  # neither processes nor sharding are needed to go on
        assert sparsact(*command, "--out", out, "--resume", "--steps", 40)[0] == 0
    assert curve(two)[-1] == pytest.approx(curve(one)[-1], rel=1e-5, abs=1e-6)


def test_a_resumed_run_replaces_the_points_of_the_steps_it_does_again(data, sparsact, tmp_path):
    out = tmp_path / "run"
    command = ("sae", "train", "--data", data, *FLAGS, "--out", out)
    tracked = (*command, "--trackers", "tensorboard")
    assert sparsact(*tracked, "--steps", 25)[0] == 0
    (out / "log.jsonl").write_text((out / "log.jsonl").read_text() + '{"step": 26, "lo')
    assert sparsact(*tracked, "--resume")[0] == 0
    assert [line["step"] for line in curve(out)] == list(range(1, 31))
    assert logged(out) == pytest.approx([line["loss"] for line in curve(out)], rel=1e-4)


def logged(out):
    events = EventAccumulator(str(out / "sparsact")).Reload()
    return [event.value for event in events.Scalars("train/loss")]


def test_a_batch_that_cannot_be_divided_is_refused(data, sparsact, tmp_path, monkeypatch):
    class Three:
        num_processes = 3

    monkeypatch.setattr("sparsact.sae.training.training_run.make_accelerator", lambda **_: Three())
    flags = ("--data", data, *FLAGS, "--out", tmp_path / "run")
    status, _, error = sparsact("sae", "train", *flags)
    assert status == 2
    assert "64 cannot be divided among 3" in error
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_is_not_installed(data, sparsact, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    flags = ("--data", data, *FLAGS, "--out", tmp_path / "run", "--trackers", "wandb")
    status, _, error = sparsact("sae", "train", *flags)
    assert status == 2
    assert "sparsact[wandb]" in error
