"""A streaming run that is killed at random and resumed has the curve of one that is not.

``python benchmarks/sae_kills.py`` trains on a stream of a small model, with two layers at once.
Then it starts the same run again, kills it with SIGKILL after a random time, and resumes it, until
it has been killed 20 times and has ended. All lines of the logs must be equal.
"""

import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import Run, main

FLAGS = [
    *("--d-sae", "128", "--k", "8", "--batch-size", "64", "--held-out", "100", "--length", "32"),
    *("--stream", "--checkpoint-every", "3", "--buffer-rows", "512", "--lr", "1e-3"),
]


def kills(run: Run) -> None:
    """Kill a run at random times, and compare its curves with those of one that was not."""
    wanted, steps = run.size((20, 400), (1, 8))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = ("--model", str(run.models / "smollm2"), "--layer", "model.layers.[01]")
        text = ("--text", str(run.models / "text" / "calibrate.txt"), "--max-tokens", "4000")
        command = [sys.executable, "-m", "sparsact.cli", "sae", "train", *model, *text, *FLAGS]
        command += ["--steps", str(steps), "--out"]
        started = time.monotonic()
        subprocess.run([*command, folder / "whole"], check=True, stdout=subprocess.DEVNULL)
        longest = time.monotonic() - started
        done = _killed(command, folder / "parts", longest, wanted)
        logs = sorted((folder / "whole").rglob("log.jsonl"))
        equal = [
            (folder / "parts" / log.relative_to(folder / "whole")).read_text() == log.read_text()
            for log in logs
        ]
    run.write("sae_kills", {"kills": done, "curves": len(equal), "equal curves": sum(equal)})


def _killed(command: list[str], out: Path, longest: float, wanted: int) -> int:
    """Start, kill and resume a run, then let it end; return the number of kills."""
    chance, done = random.Random(0), 0
    while True:
        resume = ["--resume"] if (out / "config.json").exists() else []
        process = subprocess.Popen([*command, out, *resume], stdout=subprocess.DEVNULL)
        try:
            wait = chance.uniform(0.1, 0.9) * longest if done < wanted else None
            if process.wait(wait) == 0:
                return done
            raise RuntimeError(f"the run ended with status {process.returncode}")
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            done += 1


if __name__ == "__main__":
    main(__doc__, {"kills": kills})
