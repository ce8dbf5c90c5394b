"""Running something by torchrun in two processes, or more."""

import os
import subprocess
import sys

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]


def run_on_two(*command: object) -> None:
    """Run a script, or ``-m`` and a module, with arguments; it must end well in both processes."""
    run_on(2, *command)


def run_on(processes: int, *command: object) -> None:
    """Run something in so many processes; it must end well in all."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    run = subprocess.run(
        [*TORCHRUN, f"--nproc-per-node={processes}", *map(str, command)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
