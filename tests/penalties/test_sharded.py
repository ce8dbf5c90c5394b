"""FSDP2 on the CPU: two processes with sharded parameters equal one with whole ones."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from sharded_step import results

from two_processes import run_on_two

SCRIPT = Path(__file__).with_name("sharded_step.py")


@pytest.mark.skipif(not dist.is_gloo_available(), reason="torch was built without gloo")
def test_sharded_equals_whole(tmp_path):
    run_on_two(SCRIPT, tmp_path)
    wanted = results(0, 1)
    assert len(wanted) == 13
    assert 0 < wanted["proximal, L1"]["nonzero"] < 32
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
