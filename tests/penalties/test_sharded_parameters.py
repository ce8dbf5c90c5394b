"""FSDP2 on the CPU: two processes with sharded parameters equal one without sharding."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from sharded_step import results

from two_processes import run_on_two

SCRIPT = Path(__file__).with_name("sharded_step.py")


@pytest.mark.skipif(not dist.is_gloo_available(), reason="torch was built without gloo")
def test_sharded_equals_unsharded(tmp_path):
    run_on_two(SCRIPT, tmp_path)
    expected = results(0, 1)
    assert len(expected) == 22
    assert 0 < expected["proximal, L1"]["nonzero"] < 32
    for rank in range(2):
        sharded = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(sharded, expected, rtol=1e-6, atol=1e-6)
