"""Run code in a new Python process."""

import os
import subprocess
import sys


def python(code, **environment):
    """Run the code; return the lines that it printed."""
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.split("\n")[:-1]
