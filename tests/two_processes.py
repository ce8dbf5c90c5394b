"""A script run by torchrun in two processes."""

import os
import subprocess
import sys
from pathlib import Path


def run_on_two(script: Path, folder: Path) -> None:
    """Run `script` with the argument `folder`; it must end well in both processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    run = subprocess.run(
        [*command, str(script), str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
