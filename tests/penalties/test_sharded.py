"""FSDP2 on the CPU: two processes with sharded parameters equal one with whole ones."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from sharded_step import results

SCRIPT = Path(__file__).with_name("sharded_step.py")


@pytest.mark.skipif(not dist.is_gloo_available(), reason="torch was built without gloo")
def test_sharded_equals_whole(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    run = subprocess.run(
        [*command, str(SCRIPT), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    wanted = results(0, 1)
    assert len(wanted) == 13
    assert 0 < wanted["proximal, L1"]["nonzero"] < 32
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
