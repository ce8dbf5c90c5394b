import copy

import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy

import tiny_models
from sparsact.calibration import calibrate
from sparsact.inference import sparsify


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    digits = load_digits()
    x = torch.tensor(digits.data / 16, dtype=torch.float32)
    y = torch.tensor(digits.target)
    model = tiny_models.mlp(64, 128, 32, 10)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(15):
        for rows in torch.randperm(1300).split(100):
            optimizer.zero_grad()
            cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    return model, x[:1300], x[1300:], y[1300:]


@pytest.mark.parametrize("rows", [1, 497])
def test_natural_zeros_cost_nothing(trained, rows):
    model, seen, others, labels = trained
    with torch.no_grad():
        dense = model(others)
    assert (dense.argmax(1) == labels).float().mean() > 0.85
    plan = calibrate(model, [seen], sparsity=0.0, score="weight", held_out=[others])
    # half of the pixels, and what the ReLUs leave
    assert plan.achieved_sparsity > 0.3
    assert all(share > 0.1 for share in plan.achieved.values())
    sparse = sparsify(copy.deepcopy(model), plan, "float32")
    actual = torch.cat([sparse(part) for part in others.split(rows)])
    assert torch.equal(actual.argmax(1), dense.argmax(1))
    torch.testing.assert_close(actual, dense, rtol=1e-5, atol=1e-4)
