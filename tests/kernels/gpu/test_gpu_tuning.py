"""Which block size is chosen, and what is said where none fits."""

import pytest
import torch
from triton.runtime.errors import OutOfResources

from sparsact.kernels.triton import tuning

CHOICES = [{"BLOCK": 64}, {"BLOCK": 128}, {"BLOCK": 256}]


def choose(times):
    """The fastest choice, where each takes a time or raises an error."""
    current = []

    def run(choice):
        current[:] = [times[choice["BLOCK"]]]
        if isinstance(current[0], Exception):
            raise current[0]

    def milliseconds(call):
        call()
        return current[0]

    return tuning.fastest("clip", CHOICES, run, milliseconds)


def test_the_fastest_wins_and_the_first_of_equals():
    assert choose({64: 3.0, 128: 1.0, 256: 2.0}) == {"BLOCK": 128}
    assert choose({64: 1.0, 128: 1.0, 256: 1.0}) == {"BLOCK": 64}


@pytest.mark.parametrize(
    "problem", [OutOfResources(300_000, 232_448, "shared memory"), torch.OutOfMemoryError("full")]
)
def test_a_choice_that_does_not_fit_is_left_out(problem):
    assert choose({64: problem, 128: 2.0, 256: problem}) == {"BLOCK": 128}


def test_no_choice_that_fits_is_named():
    problem = OutOfResources(300_000, 232_448, "shared memory")
    with pytest.raises(tuning.KernelDoesNotFitError, match=r"clip: none of 3 .* 300000.* 232448"):
        choose(dict.fromkeys((64, 128, 256), problem))


def test_other_errors_pass():
    with pytest.raises(ZeroDivisionError):
        choose({64: ZeroDivisionError(), 128: 1.0, 256: 1.0})


def test_without_a_gpu_the_first_runs():
    ran = []
    tuning.run_fastest("clip", (1,), CHOICES, ran.append, torch.device("cpu"))
    assert ran == CHOICES[:1]


def test_sizes_near_each_other_share_a_choice():
    assert tuning.about(4096) == tuning.about(5000) != tuning.about(8192)
