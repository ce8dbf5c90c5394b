import json
from pathlib import Path

import pytest
import torch

import sparsact as sa
from sparsact.sae import (
    SAEConfig,
    SAETrainConfig,
    SAETrainer,
    SparseAutoencoder,
    load_checkpoint,
    load_sae,
    open_rows,
    save_checkpoint,
    save_sae,
    save_saelens,
)
from sparsact.sae.sae_config import KINDS


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "custom"])
def test_what_is_saved_computes_the_same(kind, batches, tmp_path):
    sae = SparseAutoencoder(SAEConfig(16, 48, kind, k=4))
    SAETrainer(sae, SAETrainConfig()).fit(batches, steps=5)
    before = sae.scale_in.clone()
    loaded = load_sae(save_sae(sae, tmp_path / "sae"))
    x = next(batches)
    assert torch.equal(sae.scale_in, before)
    assert loaded.scale_in == 1
    assert torch.allclose(loaded(x), sae.eval()(x), atol=1e-3)


def test_a_custom_kind_is_loaded_with_its_module(tmp_path):
    sae = SparseAutoencoder(SAEConfig(4, 8, "custom"), sa.nn.Softshrink(0.3, learnable=True))
    save_sae(sae, tmp_path / "sae")
    loaded = load_sae(tmp_path / "sae", sa.nn.Softshrink(0.0, learnable=True))
    assert loaded.activation.lambd.item() == pytest.approx(0.3)


@pytest.mark.parametrize("kind", ["topk", "jumprelu", "batch_topk"])
def test_a_resumed_training_goes_on_bitwise(kind, sparse_data, tmp_path):
    def start():
        torch.manual_seed(0)
        sae = SparseAutoencoder(SAEConfig(16, 48, kind, k=4))
        config = SAETrainConfig(
            lr_warmup_steps=5, sparsity_warmup_steps=5, resample_every=7, dead_after=512
        )
        return SAETrainer(sae, config)

    rows = open_rows(sparse_data)
    whole = [s.loss for s in start().run(rows.batches(128), 20)]
    first = start()
    list(first.run(rows.batches(128), 9))
    save_checkpoint(first, tmp_path / "checkpoint")
    second = start()
    load_checkpoint(second, tmp_path / "checkpoint")
    rest = [s.loss for s in second.run(rows.batches(128, start=second.steps), 20)]
    assert rest == whole[9:]


def test_a_crash_between_the_two_renames_is_survived(batches, tmp_path, monkeypatch):
    trainer = SAETrainer(SparseAutoencoder(SAEConfig(16, 48, k=4)), SAETrainConfig())
    trainer.step(next(batches))
    checkpoint = save_checkpoint(trainer, tmp_path / "checkpoint")
    path = save_sae(trainer.sae, tmp_path / "sae")
    before = load_sae(path).W_dec.clone()
    trainer.step(next(batches))
    with monkeypatch.context() as patched:
        rename = Path.rename
        patched.setattr(Path, "rename", lambda old, new: crash(old, new, rename))
        for save in (
            lambda: save_checkpoint(trainer, checkpoint),
            lambda: save_sae(trainer.sae, path),
        ):
            with pytest.raises(KeyboardInterrupt):
                save()
    assert not checkpoint.exists()
    assert not path.exists()
    load_checkpoint(trainer, checkpoint)
    assert trainer.steps == 1
    assert torch.equal(load_sae(path).W_dec, before)
    save_sae(trainer.sae, path)
    assert {file.name for file in tmp_path.iterdir()} == {"sae", ".checkpoint.sparsact-old"}


def crash(old, new, rename):
    """Move the old directory aside, and not the new one in its place."""
    if new.name.startswith("."):
        return rename(old, new)
    raise KeyboardInterrupt


def test_only_a_directory_of_an_autoencoder_is_replaced(tmp_path):
    sae = SparseAutoencoder(SAEConfig(16, 48, k=4))
    (tmp_path / "mine").mkdir()
    (tmp_path / "config").mkdir()
    for name in ("mine/thesis.txt", "config/config.json", "file"):
        (tmp_path / name).write_text("precious")
    save_sae(sae, tmp_path / "sae")
    (tmp_path / "sae" / "notes.txt").write_text("precious")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    for name in ("mine", "config", "file", "sae"):
        with pytest.raises(FileExistsError, match="not replaced"):
            save_sae(sae, tmp_path / name)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("save", [save_sae, save_saelens])
def test_what_stands_beside_stays(save, tmp_path):
    names = ["out.old", "out.new", "out.unfinished"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("precious")
    sae = SparseAutoencoder(SAEConfig(16, 48, k=4))
    save(sae, tmp_path / "out")
    save_sae(sae, save_sae(sae, tmp_path / "twice"))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out", *sorted(names), "twice"]
    assert all((tmp_path / name / "notes.txt").exists() for name in names)


def test_a_spoilt_autoencoder_is_named(tmp_path):
    path = save_sae(SparseAutoencoder(SAEConfig(16, 48, k=4)), tmp_path / "sae")
    config = json.loads((path / "config.json").read_text())
    for settings, message in (
        (config | {"d_sae": 47}, "does not fit .*config.json: .*size mismatch"),
        (config | {"activation": "gated"}, "does not fit .*config.json: .*Missing"),
        (config | {"k": 0}, "config.json is not of an autoencoder: k must"),
        (config | {"d_in": "16"}, "config.json is not of an autoencoder"),
        ({"run": {}}, "config.json is not of an autoencoder: .*'run'"),
        ([], "config.json must hold an object"),
    ):
        (path / "config.json").write_text(json.dumps(settings))
        with pytest.raises(ValueError, match=f"(?s){message}"):
            load_sae(path)
    (path / "config.json").write_text(json.dumps(config))
    (path / "sae.safetensors").write_bytes((path / "sae.safetensors").read_bytes()[:500])
    with pytest.raises(ValueError, match=r"sae\.safetensors is no whole"):
        load_sae(path)


def test_a_spoilt_checkpoint_is_named(batches, tmp_path):
    trainer = SAETrainer(SparseAutoencoder(SAEConfig(16, 48, k=4)), SAETrainConfig())
    trainer.step(next(batches))
    file = save_checkpoint(trainer, tmp_path / "checkpoint") / "state.safetensors"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"state\.safetensors is no whole"):
        load_checkpoint(trainer, tmp_path / "checkpoint")


def test_nothing_there(tmp_path):
    trainer = SAETrainer(SparseAutoencoder(SAEConfig(16, 48, k=4)), SAETrainConfig())
    with pytest.raises(FileNotFoundError):
        load_checkpoint(trainer, tmp_path / "no")
    with pytest.raises(FileNotFoundError):
        load_sae(tmp_path)
