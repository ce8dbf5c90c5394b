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
)
from sparsact.sae.config import KINDS


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


def test_a_crash_between_the_two_renames_is_survived(batches, tmp_path):
    trainer = SAETrainer(SparseAutoencoder(SAEConfig(16, 48, k=4)), SAETrainConfig())
    trainer.step(next(batches))
    path = save_checkpoint(trainer, tmp_path / "checkpoint")
    path.rename(tmp_path / "checkpoint.old")
    trainer.step(next(batches))
    load_checkpoint(trainer, path)
    assert trainer.steps == 1


def test_nothing_there(tmp_path):
    trainer = SAETrainer(SparseAutoencoder(SAEConfig(16, 48, k=4)), SAETrainConfig())
    with pytest.raises(FileNotFoundError):
        load_checkpoint(trainer, tmp_path / "no")
    with pytest.raises(FileNotFoundError):
        load_sae(tmp_path)
