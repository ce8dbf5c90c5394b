"""Rows of activations that need not fit in memory, and shuffled batches of them."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

SHARD_ROWS = 65536
"""Rows of an array that are treated as one shard."""

SAMPLED = 32
"""Shards, and rows of each, that tell one set of rows from another."""

FLOATS = (np.float64, np.float32, np.float16)
"""Of NumPy's, those that torch has."""


@dataclass(frozen=True)
class Shard:
    """Some rows, read when asked for.

    Attributes:
        rows: how many.
        width: of each.
        take: returns those from one number to another as (rows, width).
    """

    rows: int
    width: int
    take: Callable[[int, int], Tensor]

    def read(self) -> Tensor:
        """All of them."""
        return self.take(0, self.rows)


@dataclass(frozen=True)
class Rows:
    """Activations as a list of shards, of which a few are in memory at a time.

    Args:
        shards: each some rows.
        width: of every row.
    """

    shards: Sequence[Shard]
    width: int

    @cached_property
    def total(self) -> int:
        """Number of rows."""
        return sum(shard.rows for shard in self.shards)

    def fingerprint(self) -> str:
        """A digest of the sizes, and of some rows."""
        digest = hashlib.sha256(str([shard.rows for shard in self.shards]).encode())
        for shard in self.shards[:: max(len(self.shards) // SAMPLED, 1)]:
            for row in range(0, shard.rows, max(shard.rows // SAMPLED, 1)):
                digest.update(shard.take(row, row + 1).float().numpy().tobytes())
        return digest.hexdigest()

    def batches(
        self,
        batch_size: int,
        *,
        seed: int = 0,
        buffer_rows: int = 262_144,
        start: int = 0,
        rank: int = 0,
        processes: int = 1,
    ) -> Iterator[Tensor]:
        """Shuffled batches without end, each epoch in another order.

        Shards are drawn in random order, and the rows of as many as fit in the buffer are
        shuffled together: memory is bounded, and batch number n is known without making those
        before it. Rows that do not fill a batch at the end of a buffer are left to another epoch.

        Args:
            batch_size: rows in a batch.
            seed: of the order.
            buffer_rows: rows in memory at a time; at least one shard is.
            start: number of the first batch: a resumed training goes on where it was.
            rank: of this process, which gets its part of each batch: joined in the order of
                ranks the parts are the batch that a single process gets.
            processes: how many there are; each has its part of the buffer in memory.

        Yields:
            (batch_size / processes, width) in float32.

        Raises:
            ValueError: a batch has no rows, or more than there are, or cannot be divided.
        """
        if batch_size < 1:
            raise ValueError(f"a batch must have at least 1 row, got {batch_size}")
        if batch_size % processes:
            raise ValueError(f"a batch of {batch_size} rows has no {processes} equal parts")
        if self.total < batch_size:
            raise ValueError(f"a batch of {batch_size} rows needs more than {self.total} rows")
        part = batch_size // processes
        epoch = number = 0
        while True:
            generator = torch.Generator().manual_seed(seed + epoch)
            for group in self._groups(buffer_rows, batch_size, generator):
                size = sum(self.shards[index].rows for index in group)
                order = torch.randperm(size, generator=generator)
                first = max(start - number, 0)
                if first < size // batch_size:
                    parts = order[: size // batch_size * batch_size].view(-1, processes, part)
                    yield from self._deal(group, parts[first:, rank])
                number += size // batch_size
            epoch += 1

    def _deal(self, group: list[int], wanted: Tensor) -> Iterator[Tensor]:
        """The rows `wanted` (batches, rows) of the joined shards of a group."""
        places = wanted.flatten()
        found, taken, start = [], [], 0
        for index in group:
            shard = self.shards[index]
            inside = ((places >= start) & (places < start + shard.rows)).nonzero().flatten()
            found.append(shard.read()[places[inside] - start])
            taken.append(inside)
            start += shard.rows
        buffer, order = torch.cat(found), torch.cat(taken).argsort()
        for batch in order.view(wanted.shape):
            yield buffer[batch].float()

    def _groups(
        self, buffer_rows: int, batch_size: int, generator: torch.Generator
    ) -> list[list[int]]:
        """Shards in random order, as many to a group as the buffer holds."""
        groups: list[list[int]] = []
        size = 0
        for index in torch.randperm(len(self.shards), generator=generator).tolist():
            rows = self.shards[index].rows
            if groups and (size + rows <= buffer_rows or size < batch_size):
                groups[-1].append(index)
                size += rows
            else:
                groups.append([index])
                size = rows
        return groups

    def split(self, held_out: int) -> tuple["Rows", Tensor]:
        """All rows but the last, and the last `held_out` in memory.

        Raises:
            ValueError: none are held out, or nothing would be left to train on.
        """
        if held_out < 1:
            raise ValueError(f"at least 1 row must be held out, got {held_out}")
        if held_out >= self.total:
            raise ValueError(f"{held_out} held-out rows of {self.total} leave none to train on")
        return self._without(held_out)

    def last(self, rows: int) -> Tensor:
        """The last `rows`, or all where there are no more, in memory."""
        return self._without(min(rows, self.total))[1]

    def _without(self, rows: int) -> tuple["Rows", Tensor]:
        kept, taken, missing = list(self.shards), [], rows
        while missing:
            last = kept.pop()
            cut = max(last.rows - missing, 0)
            taken.append(last.take(cut, last.rows))
            missing -= last.rows - cut
            if cut:
                kept.append(Shard(cut, self.width, last.take))
        return Rows(kept, self.width), torch.cat(taken[::-1]).float()


def open_rows(source: Tensor | str | Path) -> Rows:
    """Activations from a tensor, a ``.npy`` or ``.safetensors`` file, or a directory of them.

    Files are memory-mapped: rows are read when a batch needs them.

    Args:
        source: a tensor (rows, width) or a path. A safetensors file holds one tensor, or one
            named ``activations``; of a directory the files count in the order of their names.

    Raises:
        FileNotFoundError: there is no such file, or none in the directory.
        ValueError: not a matrix of floating-point numbers, of different widths, or no rows at all;
            a file that is spoilt.

    Example:
        >>> rows = open_rows(torch.randn(100, 8))
        >>> next(rows.batches(16)).shape
        torch.Size([16, 8])
    """
    if isinstance(source, Tensor):
        return _rows(_tensor_shards(source), "the tensor")
    path = Path(source)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in (".npy", ".safetensors"))
        if not files:
            raise FileNotFoundError(f"{path} holds no .npy or .safetensors file")
    elif path.exists():
        files = [path]
    else:
        raise FileNotFoundError(f"{path} does not exist")
    return _rows([shard for file in files for shard in _file_shards(file)], str(path))


def _rows(shards: list[Shard], where: str) -> Rows:
    if not shards:
        raise ValueError(f"{where} holds no rows")
    widths = sorted({shard.width for shard in shards})
    if len(widths) != 1:
        raise ValueError(f"the files hold rows of different widths: {widths}")
    return Rows(shards, widths[0])


def _cut(shape: Sequence[int], read: Callable[[int, int], Tensor]) -> list[Shard]:
    """A matrix of which `read` gives a range of rows, as shards of at most SHARD_ROWS."""
    rows, width = shape
    return [
        Shard(min(SHARD_ROWS, rows - first), width, partial(_beyond, read, first))
        for first in range(0, rows, SHARD_ROWS)
    ]


def _beyond(read: Callable[[int, int], Tensor], first: int, start: int, stop: int) -> Tensor:
    return read(first + start, first + stop)


def _tensor_shards(tensor: Tensor) -> list[Shard]:
    _check_matrix(tensor.shape, tensor.dtype, tensor.is_floating_point(), "the tensor")
    return _cut(tensor.shape, lambda start, stop: tensor[start:stop])


def _file_shards(file: Path) -> list[Shard]:
    readers = {".npy": _npy_shards, ".safetensors": _safetensors_shards}
    if file.suffix not in readers:
        raise ValueError(f"{file} is neither .npy nor .safetensors")
    return readers[file.suffix](file)


def _npy_shards(file: Path) -> list[Shard]:
    try:
        mapped = np.lib.format.open_memmap(file, mode="r")
    except ValueError as error:
        raise ValueError(f"{file} is no whole .npy file of numbers: {error}") from error
    native = mapped.dtype.newbyteorder("=")
    _check_matrix(mapped.shape, mapped.dtype, native in FLOATS, str(file))
    return _cut(
        mapped.shape, lambda start, stop: torch.from_numpy(mapped[start:stop].astype(native))
    )


def _safetensors_shards(file: Path) -> list[Shard]:
    try:
        with safe_open(file, "pt") as opened:
            names = list(opened.keys())
            name = names[0] if len(names) == 1 else "activations"
            if name not in names:
                raise ValueError(f"{file} holds {len(names)} tensors and none named 'activations'")
            stored = opened.get_slice(name)
            shape, kind = tuple(stored.get_shape()), stored.get_dtype()
    except SafetensorError as error:
        raise ValueError(f"{file} is no whole safetensors file: {error}") from error
    _check_matrix(shape, kind, kind in ("F64", "F32", "F16", "BF16"), str(file))

    def read(start: int, stop: int) -> Tensor:
        with safe_open(file, "pt") as opened:
            found: Tensor = opened.get_slice(name)[start:stop]
        return found

    return _cut(shape, read)


def _check_matrix(shape: Sequence[int], dtype: object, floating: bool, where: str) -> None:
    if len(shape) != 2 or not floating:
        raise ValueError(
            f"{where} must hold a matrix of floating-point numbers, got {dtype} of shape "
            f"{tuple(shape)}"
        )
