"""A full disk: one clear error, and the files there stay complete."""

import resource
from contextlib import contextmanager

import pytest
import torch

from sparsact._common.atomic import write_text
from sparsact._common.errors import OutputError
from sparsact.sae import (
    SAEConfig,
    SAETrainConfig,
    SAETrainer,
    SparseAutoencoder,
    harvest,
    load_checkpoint,
    load_sae,
    pack_tokens,
    save_checkpoint,
    save_sae,
)


@contextmanager
def small_files_only(size=500):
    """As on a full disk: files cannot grow beyond the size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def trainer(batches):
    made = SAETrainer(SparseAutoencoder(SAEConfig(16, 48, k=4)), SAETrainConfig())
    made.step(next(batches))
    return made


def test_the_last_checkpoint_stays(trainer, batches, tmp_path):
    save_checkpoint(trainer, tmp_path / "checkpoint")
    trainer.step(next(batches))
    with small_files_only(), pytest.raises(OutputError, match=r"checkpoint.*too large"):
        save_checkpoint(trainer, tmp_path / "checkpoint")
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint"]
    load_checkpoint(trainer, tmp_path / "checkpoint")
    assert trainer.steps == 1


def test_the_last_autoencoder_stays(trainer, tmp_path):
    save_sae(trainer.sae, tmp_path / "sae")
    before = load_sae(tmp_path / "sae").W_dec
    trainer.sae.W_dec.data.neg_()
    with small_files_only(), pytest.raises(OSError, match="free some space"):
        save_sae(trainer.sae, tmp_path / "sae")
    assert torch.equal(load_sae(tmp_path / "sae").W_dec, before)
    assert [file.name for file in tmp_path.iterdir()] == ["sae"]


def test_finished_shards_stay_and_the_rest_is_made_later(layer_model, tmp_path):
    model = layer_model()
    tokens = pack_tokens(torch.randint(1, 50, (100,)).tolist(), 8, bos=0)
    rows = harvest(model, "first", tokens, tmp_path, batch_rows=4, shard_rows=4)
    expected = torch.cat([shard.read() for shard in rows.shards])
    missing = tmp_path / "shard_00001.safetensors"
    missing.unlink()
    others = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with small_files_only(), pytest.raises(OutputError, match=r"shard_00001.*too large"):
        harvest(model, "first", tokens, tmp_path, batch_rows=4, shard_rows=4)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == others
    model.calls = 0
    rows = harvest(model, "first", tokens, tmp_path, batch_rows=4, shard_rows=4)
    assert model.calls == 1
    assert torch.equal(torch.cat([shard.read() for shard in rows.shards]), expected)


def test_a_text_file_stays(tmp_path):
    write_text(tmp_path / "config.json", "old")
    with small_files_only(), pytest.raises(OutputError):
        write_text(tmp_path / "config.json", "new" * 1000)
    assert (tmp_path / "config.json").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_directory_that_cannot_be_made(trainer, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"a directory\); files written earlier are complete$"):
        save_sae(trainer.sae, tmp_path / "file" / "sae")
