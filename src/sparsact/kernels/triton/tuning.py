"""The fastest of a few block sizes, timed at the first call for a shape on a device.

A choice only says how work is cut. It is kept until the process ends.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import partial

import torch
from triton.runtime.errors import OutOfResources

from sparsact._common.errors import SparsactError

Choice = dict[str, int]
"""Block sizes and warps, by the names of the kernel's parameters."""
_TIMED_RUNS = 10
_fastest: dict[Hashable, Choice] = {}


class KernelDoesNotFitError(SparsactError):
    """No block size of a kernel fits the GPU."""


def run_fastest(
    name: str,
    shape: tuple[Hashable, ...],
    choices: Sequence[Choice],
    run: Callable[[Choice], None],
    device: torch.device,
) -> None:
    """Run a kernel with the fastest choice.

    A choice cannot be timed while a CUDA graph is recorded, nor in Triton's interpreter: then the
    first one runs.

    Args:
        name: of the operation, for the key and for errors.
        shape: sizes and dtypes for which one choice serves; pass sizes through `about`.
        choices: the likely best first.
        run: launches the kernel; repeated calls write the same output.
        device: of the operands.

    Raises:
        KernelDoesNotFitError: every choice exceeds shared memory, registers or memory.
    """
    if device.type != "cuda":
        return run(choices[0])
    key = (name, shape, torch.cuda.get_device_name(device))
    choice = _fastest.get(key)
    if choice is None:
        if torch.cuda.is_current_stream_capturing():
            return run(choices[0])
        choice = _fastest[key] = fastest(name, choices, run, _milliseconds)
    return run(choice)


def about(size: int) -> int:
    """The power of two that stands for sizes near it."""
    return size.bit_length()


def fastest(
    name: str,
    choices: Sequence[Choice],
    run: Callable[[Choice], None],
    milliseconds: Callable[[Callable[[], None]], float],
) -> Choice:
    """The choice that takes the least time; those that do not fit are left out."""
    times, problems = [], []
    for place, choice in enumerate(choices):
        try:
            times.append((milliseconds(partial(run, choice)), place))
        except (OutOfResources, torch.OutOfMemoryError) as problem:
            problems.append(f"{choice}: {problem}")
    if not times:
        raise KernelDoesNotFitError(
            f"{name}: none of {len(choices)} block sizes runs on this GPU; {problems[0]}"
        )
    return choices[min(times)[1]]


def _milliseconds(run: Callable[[], None]) -> float:
    """The mean time of a few runs, after one that compiles."""
    run()
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(_TIMED_RUNS):
        run()
    stop.record()
    stop.synchronize()
    return float(start.elapsed_time(stop)) / _TIMED_RUNS
