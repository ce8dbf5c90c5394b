import random
from itertools import islice

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sparsact.sae import open_rows
from sparsact.sae.data.activation_shards import Shard


@pytest.fixture
def matrix():
    return torch.arange(300.0)[:, None].repeat(1, 3)


def test_every_epoch_has_each_row_once_in_another_order(matrix):
    batches = open_rows(matrix, shard_rows=40).batches(10, buffer_rows=80)
    first, second = (torch.cat(list(islice(batches, 30)))[:, 0] for _ in range(2))
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(300))
    assert not torch.equal(first, second)
    assert not torch.equal(first, first.sort().values)


@pytest.mark.parametrize("start", [0, 1, 4, 29, 30, 31, 75])
def test_batches_can_start_anywhere(start, matrix):
    rows = open_rows(matrix, shard_rows=40)
    whole = list(islice(rows.batches(10, seed=3, buffer_rows=80), 80))
    rest = list(islice(rows.batches(10, seed=3, buffer_rows=80, start=start), 80 - start))
    assert all(torch.equal(a, b) for a, b in zip(whole[start:], rest, strict=True))


def test_memory_is_bounded_by_the_buffer(matrix):
    rows = open_rows(matrix, shard_rows=40)
    alive = []
    for batch in islice(rows.batches(10, buffer_rows=80), 8):
        alive.append(set((batch[:, 0] // 40).int().tolist()))
    assert len(set.union(*alive)) <= 2  # the first 8 batches are of two shards of 40 rows


def test_files_equal_the_tensor(matrix, tmp_path):
    np.save(tmp_path / "a.npy", matrix[:100].numpy())
    save_file({"activations": matrix[100:200].bfloat16()}, tmp_path / "b.safetensors")
    save_file({"x": matrix[200:].half()}, tmp_path / "c.safetensors")
    rows = open_rows(tmp_path)
    found = torch.cat([shard.read().float() for shard in rows.shards])
    assert (rows.total, rows.width) == (300, 3)
    assert torch.equal(found, matrix)  # integers up to 256 are exact in bfloat16
    assert next(rows.batches(300)).dtype == torch.float32


def test_split(matrix):
    train, held_out = open_rows(matrix, shard_rows=40).split(50)
    assert torch.equal(held_out, matrix[250:])
    assert train.total == 250
    assert torch.equal(torch.cat([shard.read() for shard in train.shards]), matrix[:250])
    with pytest.raises(ValueError, match="leave none"):
        open_rows(matrix, shard_rows=40).split(300)


def test_wrong_sources(matrix, tmp_path):
    with pytest.raises(ValueError, match="matrix"):
        open_rows(torch.randn(3))
    with pytest.raises(ValueError, match="matrix"):
        open_rows(torch.ones(3, 3).int())
    with pytest.raises(FileNotFoundError, match="no \\.npy"):
        open_rows(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        open_rows(tmp_path / "no.npy")
    save_file({"x": matrix, "y": matrix + 1}, tmp_path / "two.safetensors")
    with pytest.raises(ValueError, match="2 tensors"):
        open_rows(tmp_path / "two.safetensors")
    (tmp_path / "a.csv").write_text("1")
    with pytest.raises(ValueError, match="neither"):
        open_rows(tmp_path / "a.csv")
    np.save(tmp_path / "ints.npy", np.ones((3, 3), dtype=int))
    with pytest.raises(ValueError, match="matrix"):
        open_rows(tmp_path / "ints.npy")
    (tmp_path / "two.safetensors").unlink()
    (tmp_path / "ints.npy").unlink()
    np.save(tmp_path / "p.npy", np.ones((3, 3)))
    np.save(tmp_path / "q.npy", np.ones((3, 4)))
    with pytest.raises(ValueError, match=r"\[3, 4\]"):
        open_rows(tmp_path)
    with pytest.raises(ValueError, match="more than 300"):
        next(open_rows(matrix).batches(301))


@pytest.mark.parametrize("name", ["x.npy", "x.safetensors"])
@pytest.mark.parametrize("size", [0, 1000])
def test_a_damaged_file_is_named(name, size, tmp_path):
    (tmp_path / name).write_bytes(b"x" * size)
    with pytest.raises(ValueError, match=rf"{name} is not a complete \.?{name[2:]} file"):
        open_rows(tmp_path / name)


def test_half_a_file_is_named(matrix, tmp_path):
    np.save(tmp_path / "x.npy", matrix.numpy())
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"x\.npy is not a complete"):
        open_rows(tmp_path / "x.npy")


def test_other_dtypes(matrix, tmp_path):
    np.save(tmp_path / "wide.npy", matrix.numpy().astype(np.longdouble))
    with pytest.raises(ValueError, match=r"wide\.npy must hold a matrix.*float128"):
        open_rows(tmp_path / "wide.npy")
    np.save(tmp_path / "objects.npy", np.array([{}]))
    with pytest.raises(ValueError, match=r"objects\.npy is not a complete"):
        open_rows(tmp_path / "objects.npy")
    np.save(tmp_path / "turned.npy", matrix.numpy().astype(">f4"))
    assert torch.equal(open_rows(tmp_path / "turned.npy").shards[0].read(), matrix)


def test_no_rows(matrix, tmp_path):
    np.save(tmp_path / "none.npy", matrix[:0].numpy())
    with pytest.raises(ValueError, match=r"none\.npy holds no rows"):
        open_rows(tmp_path / "none.npy", shard_rows=40)
    with pytest.raises(ValueError, match="the tensor holds no rows"):
        open_rows(matrix[:0], shard_rows=40)
    for size in (0, -3):
        with pytest.raises(ValueError, match="at least 1 row"):
            next(open_rows(matrix, shard_rows=40).batches(size))
        with pytest.raises(ValueError, match="at least 1 row"):
            open_rows(matrix, shard_rows=40).split(size)


def test_the_last_rows(matrix):
    rows = open_rows(matrix, shard_rows=40)
    assert torch.equal(rows.last(50), matrix[250:])
    for count in (300, 1000):
        assert torch.equal(rows.last(count), matrix)


def test_other_rows_have_another_fingerprint(matrix, tmp_path):
    np.save(tmp_path / "x.npy", matrix.numpy())
    found = open_rows(tmp_path / "x.npy", shard_rows=40).fingerprint()
    assert found == open_rows(matrix, shard_rows=40).fingerprint()
    others = [matrix * 5, matrix.flip(0), matrix[:299], matrix.repeat(1, 2)]
    assert len({found, *(open_rows(other, shard_rows=40).fingerprint() for other in others)}) == 5


@pytest.mark.parametrize("seed", range(5))
def test_rows_are_held_out_at_random(seed, matrix):
    rows, held_out = open_rows(matrix, shard_rows=40).split(77, seed)
    places = sorted(random.Random(seed).sample(range(300), 77))
    assert held_out[:, 0].tolist() == places
    rest = torch.cat([shard.read() for shard in rows.shards])[:, 0].tolist()
    assert rest == [row for row in range(300) if row not in set(places)]
    again, more = rows.split(50, seed + 1)
    left = torch.cat([shard.read() for shard in again.shards])[:, 0].tolist()
    assert sorted(left + more[:, 0].tolist()) == rest
    for shard in again.shards:
        whole = shard.read()
        for start in range(0, shard.rows, 3):
            for stop in range(start, shard.rows + 1):
                assert torch.equal(shard.part(start, stop), whole[start:stop])


def test_few_rows_are_read_without_those_between():
    read = []

    def take(start, stop):
        read.append(stop - start)
        return torch.arange(float(start), stop)[:, None]

    shard = Shard(100_000, 1, take)
    places = [3, 10, 5000, 5001, 99_999]
    assert shard.at(places)[:, 0].tolist() == places
    assert read == [8, 2, 1]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_row_that_is_not_finite_is_named(value, dtype, matrix, tmp_path):
    spoilt = matrix.numpy().astype(dtype)
    spoilt[123, 1] = value
    np.save(tmp_path / "x.npy", spoilt)
    message = r"row 123 of .*x\.npy has NaN or infinity"
    rows = open_rows(tmp_path / "x.npy", shard_rows=40)
    with pytest.raises(ValueError, match=message):
        list(islice(rows.batches(10), 30))
    with pytest.raises(ValueError, match=message):
        rows.last(200)
    for seed in range(3):  # held out or not
        with pytest.raises(ValueError, match=message):
            list(islice(rows.split(100, seed)[0].batches(10), 20))


def test_large_finite_rows_are_accepted():
    rows = torch.full((50, 4), 3e38)
    assert next(open_rows(rows).batches(50)).isfinite().all()
