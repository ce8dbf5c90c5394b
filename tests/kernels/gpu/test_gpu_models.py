"""Autoencoders and sparsified models on a GPU. Without one, nothing here can run."""

import copy

import pytest
import torch
from torch import nn

import sparsact as sa
from sparsact.sae import SAEConfig, SAETrainConfig, SAETrainer, SparseAutoencoder
from sparsact.sae.training.encoding import can_be_sparse

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_an_autoencoder_trains_as_with_dense_products():
    sae = SparseAutoencoder(SAEConfig(d_in=32, d_sae=512, k=8, activation="topk"))
    batches = [torch.randn(256, 32, device="cuda") for _ in range(5)]
    errors = []
    for sparse in (True, False):
        trainer = SAETrainer(copy.deepcopy(sae), SAETrainConfig(sparse=sparse))
        assert can_be_sparse(trainer.sae)
        errors.append([trainer.step(batch).fvu for batch in batches])
    assert errors[0] == pytest.approx(errors[1], rel=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "int4"])
def test_a_sparsified_model_computes_the_same(dtype):
    model, x = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 40)), torch.randn(300, 64)
    plan = sa.calibrate(model, [x], sparsity=0.3, score="weight")
    model = sa.sparsify(model, plan, dtype=dtype)
    with torch.no_grad():
        few, many = model(x[:3]), model(x)
        moved = model.cuda()
        torch.testing.assert_close(moved(x[:3].cuda()).cpu(), few, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(moved(x.cuda()).cpu(), many, rtol=1e-3, atol=1e-3)
