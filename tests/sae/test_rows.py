from itertools import islice

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sparsact.sae import open_rows
from sparsact.sae.data import rows as module


@pytest.fixture
def matrix():
    return torch.arange(300.0)[:, None].repeat(1, 3)


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(module, "SHARD_ROWS", 40)


def test_every_row_comes_once_an_epoch_in_another_order(matrix, small_shards):
    batches = open_rows(matrix).batches(10, buffer_rows=80)
    first, second = (torch.cat(list(islice(batches, 30)))[:, 0] for _ in range(2))
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(300))
    assert not torch.equal(first, second)
    assert not torch.equal(first, first.sort().values)


@pytest.mark.parametrize("start", [0, 1, 4, 29, 30, 31, 75])
def test_batch_number_n_is_known_without_those_before(start, matrix, small_shards):
    rows = open_rows(matrix)
    whole = list(islice(rows.batches(10, seed=3, buffer_rows=80), 80))
    rest = list(islice(rows.batches(10, seed=3, buffer_rows=80, start=start), 80 - start))
    assert all(torch.equal(a, b) for a, b in zip(whole[start:], rest, strict=True))


def test_memory_is_bounded_by_the_buffer(matrix, small_shards):
    rows = open_rows(matrix)
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


def test_split(matrix, small_shards):
    train, held_out = open_rows(matrix).split(50)
    assert torch.equal(held_out, matrix[250:])
    assert train.total == 250
    assert torch.equal(torch.cat([shard.read() for shard in train.shards]), matrix[:250])
    with pytest.raises(ValueError, match="leave none"):
        open_rows(matrix).split(300)


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
def test_a_spoilt_file_is_named(name, size, tmp_path):
    (tmp_path / name).write_bytes(b"x" * size)
    with pytest.raises(ValueError, match=rf"{name} is no whole \.?{name[2:]} file"):
        open_rows(tmp_path / name)


def test_half_a_file_is_named(matrix, tmp_path):
    np.save(tmp_path / "x.npy", matrix.numpy())
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"x\.npy is no whole"):
        open_rows(tmp_path / "x.npy")


def test_numbers_of_other_kinds(matrix, tmp_path):
    np.save(tmp_path / "wide.npy", matrix.numpy().astype(np.longdouble))
    with pytest.raises(ValueError, match=r"wide\.npy must hold a matrix.*float128"):
        open_rows(tmp_path / "wide.npy")
    np.save(tmp_path / "objects.npy", np.array([{}]))
    with pytest.raises(ValueError, match=r"objects\.npy is no whole"):
        open_rows(tmp_path / "objects.npy")
    np.save(tmp_path / "turned.npy", matrix.numpy().astype(">f4"))
    assert torch.equal(open_rows(tmp_path / "turned.npy").shards[0].read(), matrix)


def test_no_rows(matrix, small_shards, tmp_path):
    np.save(tmp_path / "none.npy", matrix[:0].numpy())
    with pytest.raises(ValueError, match=r"none\.npy holds no rows"):
        open_rows(tmp_path / "none.npy")
    with pytest.raises(ValueError, match="the tensor holds no rows"):
        open_rows(matrix[:0])
    for size in (0, -3):
        with pytest.raises(ValueError, match="at least 1 row"):
            next(open_rows(matrix).batches(size))
        with pytest.raises(ValueError, match="at least 1 row"):
            open_rows(matrix).split(size)


def test_the_last_rows(matrix, small_shards):
    rows = open_rows(matrix)
    assert torch.equal(rows.last(50), matrix[250:])
    for number in (300, 1000):
        assert torch.equal(rows.last(number), matrix)


def test_other_rows_have_another_fingerprint(matrix, small_shards, tmp_path):
    np.save(tmp_path / "x.npy", matrix.numpy())
    found = open_rows(tmp_path / "x.npy").fingerprint()
    assert found == open_rows(matrix).fingerprint()
    others = [matrix * 5, matrix.flip(0), matrix[:299], matrix.repeat(1, 2)]
    assert len({found, *(open_rows(other).fingerprint() for other in others)}) == 5
