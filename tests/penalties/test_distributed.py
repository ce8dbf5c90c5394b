"""Two processes with half a batch each equal one process with the full batch."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from distributed_step import gradients

from two_processes import run_on_two

SCRIPT = Path(__file__).with_name("distributed_step.py")


@pytest.mark.skipif(not dist.is_gloo_available(), reason="torch was built without gloo")
def test_two_processes_equal_one(tmp_path):
    run_on_two(SCRIPT, tmp_path)
    for rank in range(2):
        results = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for mode in ("loss", "inject"):
            for name, expected in gradients(mode, 0, 1).items():
                torch.testing.assert_close(results[mode][name], expected, rtol=1e-6, atol=1e-6)
