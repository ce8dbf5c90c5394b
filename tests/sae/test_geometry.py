import pytest
import torch
from scipy.optimize import minimize

from sparsact.sae.geometry import geometric_median, normalize_rows_, remove_parallel_


def test_geometric_median_is_the_minimiser_that_scipy_finds():
    points = torch.randn(40, 3, dtype=torch.float64) ** 3
    found = minimize(
        lambda center: torch.linalg.vector_norm(points - torch.tensor(center), dim=1).sum().item(),
        points.mean(0).numpy(),
        method="Nelder-Mead",
        options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 10_000},
    )
    assert torch.allclose(geometric_median(points, 10_000, 1e-12), torch.tensor(found.x), atol=1e-5)


def test_geometric_median_resists_an_outlier():
    points = torch.zeros(9, 2)
    points[0] = 1e6
    assert geometric_median(points).norm() < 1  # the mean's is 1.6e5


@pytest.mark.parametrize("points", [torch.zeros(5, 3), torch.ones(1, 3)])
def test_geometric_median_of_equal_points(points):
    assert torch.equal(geometric_median(points), points[0])


def test_geometric_median_needs_a_point():
    with pytest.raises(ValueError, match="at least one"):
        geometric_median(torch.zeros(0, 3))


def test_rows_and_gradient():
    weight, gradient = torch.randn(6, 4), torch.randn(6, 4)
    weight[2] = 0
    normalize_rows_(weight)
    assert torch.allclose(weight.norm(dim=1), torch.tensor([1.0, 1, 0, 1, 1, 1]))
    before = gradient.clone()
    remove_parallel_(gradient, weight)
    assert (gradient * weight).sum(1).abs().max() < 1e-6
    assert torch.equal(gradient[2], before[2])
