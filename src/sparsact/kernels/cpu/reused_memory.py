"""Memory for large results that is used again after the tensor is gone.

Linux clears new memory page by page, which takes longer than to write a gradient into it, and a
training step makes and frees large gradients.
"""

import math
import weakref
from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray[Any, Any]

_LARGE = 2**22  # bytes from which the C library returns freed memory to the system


class SpareMemory:
    """Large blocks of memory whose tensors are gone.

    Args:
        blocks: how many blocks are kept at most. Four are the gradients of an encoder and a
            decoder, and two more.
    """

    def __init__(self, blocks: int = 4) -> None:
        self._blocks = blocks
        self._spare: dict[int, Array] = {}

    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of the blocks that wait to be used again."""
        return [memory.shape for memory in self._spare.values()]

    def empty(self, shape: tuple[int, ...]) -> Tensor:
        """As ``torch.empty`` in float32; large memory comes from a spare block of that shape."""
        if 4 * math.prod(shape) < _LARGE:
            return torch.empty(shape)
        memory = self._take(shape)
        lent = memory.view()  # lives as long as the tensor's storage
        weakref.finalize(lent, self._give_back, memory).atexit = False
        return torch.from_numpy(lent)

    def _take(self, shape: tuple[int, ...]) -> Array:
        for key, memory in list(self._spare.items()):
            # another thread may have taken the block in between
            if memory.shape == shape and self._spare.pop(key, None) is not None:
                return memory
        return np.empty(shape, np.float32)

    def _give_back(self, memory: Array) -> None:
        self._spare[id(memory)] = memory
        if len(self._spare) > self._blocks:
            self._spare.pop(next(iter(self._spare)), None)


empty = SpareMemory().empty
