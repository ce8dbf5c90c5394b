"""What ``sparsact sae`` says when something is not as it was meant; no process is started."""

import numpy as np
import pytest
import torch

from sparsact.cli import main
from sparsact.sae import SAETrainer

FLAGS = [
    *("--d-sae", "64", "--k", "4", "--batch-size", "64", "--held-out", "400", "--steps", "12"),
    *("--lr-warmup-steps", "5", "--sparsity-warmup-steps", "5", "--checkpoint-every", "10"),
]


@pytest.fixture
def sparsact(monkeypatch, capsys):
    """Run the command; its status, what it showed, and what it said on a line."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["sparsact", "sae", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return end.value.code, out, " ".join(err.split())

    return run


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "activations.npy"
    np.save(path, torch.randn(2000, 16, generator=torch.Generator().manual_seed(0)).numpy())
    return path


def test_a_target_that_was_missed_is_told(sparsact, data, tmp_path, monkeypatch):
    flags = ("train", "--data", data, *FLAGS, "--activation", "relu", "--target-l0", "6", "--out")
    status, shown, _ = sparsact(*flags, tmp_path / "reached")
    assert status == 0
    assert "the target was" not in shown
    monkeypatch.setattr(SAETrainer, "reach_target", lambda self, held_out: 0.0)
    status, shown, _ = sparsact(*flags, tmp_path / "missed")
    assert status == 0
    assert "on held-out activations: the target was 6\n" in shown
