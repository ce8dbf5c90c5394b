"""How many threads a kernel runs on: as many as torch has.

Kernels are compiled with OpenMP. They find the OpenMP library that torch has loaded, and so run in
torch's own team: other threads would have to wait for torch's, which spin for a while after their
work. GNU OpenMP does not survive a fork, so a forked child runs kernels on one thread.
"""

import os

import torch

_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)


def threads(work: int) -> int:
    """The number of threads for this many pieces of work."""
    return 1 if _forked else max(1, min(torch.get_num_threads(), work))
