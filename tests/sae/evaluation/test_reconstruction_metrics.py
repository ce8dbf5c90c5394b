import math

import pytest
import torch
from sklearn.metrics import r2_score

from sparsact.sae import SAEConfig, SparseAutoencoder, evaluate


def test_explained_variance_is_around_the_mean(sparse_data):
    sae = SparseAutoencoder(SAEConfig(16, 48, "topk", k=4))
    whole = evaluate(sae, [sparse_data])
    parts = evaluate(sae, sparse_data.split(700))
    expected = r2_score(sparse_data, sae(sparse_data).detach(), multioutput="variance_weighted")
    assert whole.explained_variance == pytest.approx(expected, rel=1e-5)
    assert parts.fvu == pytest.approx(whole.fvu, rel=1e-9)
    assert whole.fvu == 1 - whole.explained_variance


def test_counts(sparse_data):
    sae = SparseAutoencoder(SAEConfig(16, 48, "relu"))
    sae.encoder.bias.data[:12] = -1e3
    found = evaluate(sae, sparse_data.split(1000), dead_after=9000)
    active = sae.encode(sparse_data) != 0
    assert found.inputs == 9000
    assert found.l0 == pytest.approx(active.sum(1).float().mean().item())
    assert torch.allclose(found.density, active.float().mean(0))
    assert found.dead == pytest.approx((~active.any(0)).float().mean().item())
    assert found.dead >= 0.25
    assert found.silent == found.dead
    assert math.isnan(evaluate(sae, sparse_data.split(1000)).dead)
    counts, edges = found.density_histogram(10)
    assert counts.sum() == (found.density > 0).sum()
    assert len(edges) == 11
    assert found.cosine == pytest.approx(
        torch.cosine_similarity(sae(sparse_data), sparse_data).mean().item(), rel=1e-5
    )


def test_the_mode_is_left_and_nothing_is_an_error():
    sae = SparseAutoencoder(SAEConfig(4, 8, "batch_topk", k=2))
    evaluate(sae, [torch.randn(8, 4)])
    assert sae.training
    assert sae.activation.num_batches_tracked == 0
    with pytest.raises(ValueError, match="no batches"):
        evaluate(sae, [])
    with pytest.raises(ValueError, match="NaN or infinity in the 2 rows from row 8 on"):
        evaluate(sae, [torch.randn(8, 4), torch.full((2, 4), torch.nan)])
    assert sae.training
    with pytest.raises(ValueError, match=r"must be \(batch, 4\), got \(8, 5\)"):
        evaluate(sae, [torch.randn(8, 5)])
    assert sae.training
    with pytest.raises(ValueError, match="a pair"):
        evaluate(SparseAutoencoder(SAEConfig(4, 8, k=2, d_out=3)), [torch.randn(8, 4)])
