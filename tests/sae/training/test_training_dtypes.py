"""Inputs with another dtype than the weights, and weights that are not float32."""

import pytest
import torch

from sae_kind_cases import KIND_CASES
from sparsact.sae import SAEConfig, SAETrainConfig, SAETrainer, SparseAutoencoder, evaluate

DTYPES = [torch.bfloat16, torch.float16, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KIND_CASES)
def test_inputs_are_converted_to_the_dtype_of_the_weights(kind, dtype, batches):
    torch.manual_seed(0)
    sae, x = SparseAutoencoder(SAEConfig(16, 48, kind, k=4)).eval(), next(batches)
    expected = sae(x)
    found = [sae(x.to(dtype)), sae.to(dtype)(x)]
    assert [one.dtype for one in found] == [torch.float32, dtype]
    for one in found:
        assert (one - expected).norm() < 0.05 * expected.norm()
    assert evaluate(sae, [x]).inputs == 256


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_training_on_batches_of_every_dtype(dtype, batches):
    def losses(dtype):
        torch.manual_seed(0)
        sae = SparseAutoencoder(SAEConfig(16, 48, k=4))
        trainer = SAETrainer(sae, SAETrainConfig(lr_warmup_steps=0))
        return [trainer.step(batch.to(dtype)).loss for batch in held]

    held = [next(batches) for _ in range(3)]
    assert losses(dtype) == pytest.approx(losses(torch.float32), rel=0.02)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("kind", KIND_CASES)
def test_training_weights_of_other_dtypes(kind, dtype, batches):
    sae = SparseAutoencoder(SAEConfig(16, 48, kind, k=4)).to(dtype)
    config = SAETrainConfig(
        lr=2e-3, lr_warmup_steps=0, sparsity_warmup_steps=0, dead_after=200, resample_every=2
    )
    stats = list(SAETrainer(sae, config).run(batches, 12))
    assert stats[-1].fvu < stats[0].fvu
    assert sae.W_dec.dtype == dtype


def test_rows_whose_norm_overflows_in_half_precision():
    sae = SparseAutoencoder(SAEConfig(4096, 64, k=8))
    x = torch.full((4, 4096), 1200.0, dtype=torch.float16)
    SAETrainer(sae, SAETrainConfig()).step(x)
    assert sae.scale_in.item() == pytest.approx(1 / 1200)
    trainer = SAETrainer(SparseAutoencoder(SAEConfig(4, 8, k=2)), SAETrainConfig())
    with pytest.raises(ValueError, match="too large"):
        trainer.step(torch.full((4, 4), 1e38))
