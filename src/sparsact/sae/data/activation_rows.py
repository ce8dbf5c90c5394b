"""Rows of activations that need not fit in memory, and shuffled batches of them."""

import hashlib
import random
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sparsact._common.errors import InputError, MissingInputError
from sparsact.sae.data.activation_shards import Shard

SHARD_ROWS = 65536
"""Default of ``open_rows(shard_rows=)``."""

SAMPLES = 32
"""Number of shards, and of rows of each, that enter a fingerprint."""

FLOATS = (np.float64, np.float32, np.float16)
"""The floating-point dtypes that NumPy and torch share."""


@dataclass(frozen=True)
class Rows:
    """Activations as a list of shards. Only a few shards are in memory at a time.

    Args:
        shards: the shards.
        width: width of every row.
        stored: whether reading a row is cheap. If not, a model computes it.
    """

    shards: Sequence[Shard]
    width: int
    stored: bool = True

    @cached_property
    def total(self) -> int:
        """Number of rows."""
        return sum(shard.rows for shard in self.shards)

    def fingerprint(self) -> str:
        """A digest of the sizes and of some rows."""
        digest = hashlib.sha256(str([shard.rows for shard in self.shards]).encode())
        for shard in self.shards[:: max(len(self.shards) // SAMPLES, 1)]:
            for row in range(0, shard.rows, max(shard.rows // SAMPLES, 1)):
                digest.update(shard.part(row, row + 1).float().numpy().tobytes())
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
        """Shuffled batches without end, in another order each epoch.

        Shards are drawn in random order. The rows of as many shards as fit in the buffer are
        shuffled together, so memory is bounded, and any batch can be made without those before
        it. Rows at the end of a buffer that do not fill a batch are skipped in this epoch.

        Args:
            batch_size: rows in a batch.
            seed: seed of the order.
            buffer_rows: rows in memory at a time; at least one shard.
            start: index of the first batch, for a resumed training.
            rank: rank of this process, which gets its part of each batch. Joined in the order
                of ranks, the parts are the batch that a single process would get.
            processes: number of processes. Each holds its part of the buffer in memory.

        Yields:
            (batch_size / processes, width) in float32.

        Raises:
            InputError: a ValueError: a batch has no rows, or more than there are, or cannot be
                divided; or a row has NaN or infinity, which is named with its file.
        """
        if batch_size < 1:
            raise InputError(f"a batch must have at least 1 row, got {batch_size}")
        if batch_size % processes:
            raise InputError(
                f"a batch of {batch_size} rows cannot be divided among {processes} processes"
            )
        if self.total < batch_size:
            raise InputError(f"a batch of {batch_size} rows needs more than {self.total} rows")
        part = batch_size // processes
        epoch = batches_before = 0
        while True:
            generator = torch.Generator().manual_seed(seed + epoch)
            for group in self._groups(buffer_rows, batch_size, generator):
                size = sum(self.shards[index].rows for index in group)
                order = torch.randperm(size, generator=generator)
                first = max(start - batches_before, 0)
                if first < size // batch_size:
                    parts = order[: size // batch_size * batch_size].view(-1, processes, part)
                    yield from self._deal(group, parts[first:, rank])
                batches_before += size // batch_size
            epoch += 1

    def _deal(self, group: list[int], indices: Tensor) -> Iterator[Tensor]:
        """The rows `indices` (batches, rows) of the joined shards of a group."""
        places = indices.flatten()
        parts, origins, start = [], [], 0
        for index in group:
            shard = self.shards[index]
            inside = ((places >= start) & (places < start + shard.rows)).nonzero().flatten()
            parts.append(shard.read()[places[inside] - start])
            origins.append(inside)
            start += shard.rows
        buffer, order = torch.cat(parts), torch.cat(origins).argsort()
        for batch in order.view(indices.shape):
            yield buffer[batch].float()

    def _groups(
        self, buffer_rows: int, batch_size: int, generator: torch.Generator
    ) -> list[list[int]]:
        """Shards in random order, in groups that fit in the buffer."""
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

    def split(self, held_out: int, seed: int | None = None) -> tuple["Rows", Tensor]:
        """The rows to train on, and `held_out` other rows in memory.

        Args:
            held_out: number of rows to hold out.
            seed: they are drawn at random with this seed, and keep their order. None: the last
                rows are held out.

        Raises:
            InputError: a ValueError: none are held out, none would be left to train on, or a
                held-out row has NaN or infinity.
        """
        if held_out < 1:
            raise InputError(f"at least 1 row must be held out, got {held_out}")
        if held_out >= self.total:
            raise InputError(f"{held_out} held-out rows of {self.total} leave none to train on")
        if seed is None:
            return self._without(range(self.total - held_out, self.total))
        return self._without(sorted(random.Random(seed).sample(range(self.total), held_out)))

    def sample(self, count: int, seed: int) -> Tensor:
        """`count` rows in memory, drawn at random, or all but one if there are fewer.

        If rows are computed, they come from as few shards as possible, which are drawn.
        """
        count = min(count, self.total - 1)
        if self.stored:
            return self.split(count, seed)[1]
        shards = list(self.shards)
        random.Random(seed).shuffle(shards)
        parts: list[Tensor] = []
        while sum(map(len, parts)) < count:
            parts.append(shards.pop().read())
        return torch.cat(parts)[:count].float()

    def last(self, rows: int) -> Tensor:
        """The last `rows` rows, or all if there are fewer, in memory."""
        return self._without(range(max(self.total - rows, 0), self.total))[1]

    def _without(self, taken: Sequence[int]) -> tuple["Rows", Tensor]:
        """All rows but those of the given ascending places, and those rows in memory."""
        kept, parts, first = [], [], 0
        for shard in self.shards:
            low, high = bisect_left(taken, first), bisect_left(taken, first + shard.rows)
            own = [shard.place(taken[at] - first) for at in range(low, high)]
            parts += [shard.at(own)] if own else []
            if len(own) < shard.rows:
                without = sorted({*shard.without, *own})
                kept.append(replace(shard, rows=shard.rows - len(own), without=without))
            first += shard.rows
        return replace(self, shards=kept), torch.cat(parts).float()


def open_rows(source: Tensor | str | Path, *, shard_rows: int = SHARD_ROWS) -> Rows:
    """Activations from a tensor, a ``.npy`` or ``.safetensors`` file, or a directory of them.

    Files are memory-mapped: rows are read when a batch needs them.

    Args:
        source: a tensor (rows, width) or a path. A safetensors file must hold one tensor, or
            one named ``activations``. The files of a directory are read in the order of names.
        shard_rows: rows of one array that are read together at most.

    Raises:
        MissingInputError: a FileNotFoundError: there is no such file, or none in the directory.
        InputError: a ValueError: a file is damaged, is not a matrix of floating-point numbers,
            has no rows, or another width than the others.

    Example:
        >>> rows = open_rows(torch.randn(100, 8))
        >>> next(rows.batches(16)).shape
        torch.Size([16, 8])
    """
    if isinstance(source, Tensor):
        return _rows(_tensor_shards(source, shard_rows), "the tensor")
    path = Path(source)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in (".npy", ".safetensors"))
        if not files:
            raise MissingInputError(f"{path} holds no .npy or .safetensors file")
    elif path.exists():
        files = [path]
    else:
        raise MissingInputError(f"{path} does not exist")
    return _rows([shard for file in files for shard in _file_shards(file, shard_rows)], str(path))


def _rows(shards: list[Shard], where: str) -> Rows:
    if not shards:
        raise InputError(f"{where} holds no rows")
    widths = sorted({shard.width for shard in shards})
    if len(widths) != 1:
        raise InputError(f"the files hold rows of different widths: {widths}")
    return Rows(shards, widths[0])


def _cut(
    shape: Sequence[int], read: Callable[[int, int], Tensor], shard_rows: int, source: str
) -> list[Shard]:
    """The shards of a matrix whose rows `read` returns for a start and a stop index."""
    rows, width = shape
    return [
        Shard(min(shard_rows, rows - at), width, partial(_read_from, read, at), source, at)
        for at in range(0, rows, shard_rows)
    ]


def _read_from(read: Callable[[int, int], Tensor], first: int, start: int, stop: int) -> Tensor:
    return read(first + start, first + stop)


def _tensor_shards(tensor: Tensor, shard_rows: int) -> list[Shard]:
    _check_matrix(tensor.shape, tensor.dtype, tensor.is_floating_point(), "the tensor")
    return _cut(tensor.shape, lambda start, stop: tensor[start:stop], shard_rows, "the tensor")


def _file_shards(file: Path, shard_rows: int) -> list[Shard]:
    readers = {".npy": _npy_shards, ".safetensors": _safetensors_shards}
    if file.suffix not in readers:
        raise InputError(f"{file} is neither .npy nor .safetensors")
    return readers[file.suffix](file, shard_rows)


def _npy_shards(file: Path, shard_rows: int) -> list[Shard]:
    try:
        mapped = np.lib.format.open_memmap(file, mode="r")
    except ValueError as error:
        raise InputError(f"{file} is not a complete .npy file of numbers: {error}") from error
    native = mapped.dtype.newbyteorder("=")
    _check_matrix(mapped.shape, mapped.dtype, native in FLOATS, str(file))

    def read(start: int, stop: int) -> Tensor:
        return torch.from_numpy(mapped[start:stop].astype(native))

    return _cut(mapped.shape, read, shard_rows, str(file))


def _safetensors_shards(file: Path, shard_rows: int) -> list[Shard]:
    try:
        with safe_open(file, "pt") as opened:
            names = list(opened.keys())
            name = names[0] if len(names) == 1 else "activations"
            if name not in names:
                raise InputError(f"{file} holds {len(names)} tensors and none named 'activations'")
            stored = opened.get_slice(name)
            shape, kind = tuple(stored.get_shape()), stored.get_dtype()
    except SafetensorError as error:
        raise InputError(f"{file} is not a complete safetensors file: {error}") from error
    _check_matrix(shape, kind, kind in ("F64", "F32", "F16", "BF16"), str(file))

    def read(start: int, stop: int) -> Tensor:
        with safe_open(file, "pt") as opened:
            rows: Tensor = opened.get_slice(name)[start:stop]
        return rows

    return _cut(shape, read, shard_rows, str(file))


def _check_matrix(shape: Sequence[int], dtype: object, floating: bool, where: str) -> None:
    if len(shape) != 2 or not floating:
        raise InputError(
            f"{where} must hold a matrix of floating-point numbers, got {dtype} of shape "
            f"{tuple(shape)}"
        )
