"""Total variation against SciPy's solution of the dual, and problems with known answers."""

import numpy as np
import pytest
import torch
from scipy.optimize import lsq_linear, minimize
from sklearn.datasets import load_sample_image

import sparsact as sa
from sparsact.coding import sparse_code


def by_the_dual(x, lambd):
    """``x − Dᵀξ``, where ξ in [−λ, λ] minimises ``‖x − Dᵀξ‖²``."""
    differences = np.diff(np.eye(len(x)), axis=0)
    bounds = (-max(lambd, 1e-12), max(lambd, 1e-12))
    dual = lsq_linear(differences.T, x, bounds, method="bvls", tol=1e-14).x
    return x - differences.T @ dual


@pytest.mark.parametrize("lambd", [1e-3, 0.1, 0.5, 2.0, 50.0])
@pytest.mark.parametrize("kind", ["normal", "steps", "ramp", "powers", "ties"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 16, 33])
def test_one_dim_equals_the_dual_of_scipy(size, kind, lambd):
    generator = np.random.default_rng(size)
    place = np.arange(size)
    x = {
        "normal": generator.standard_normal(size),
        "steps": np.floor(place / 5) + 0.3 * generator.standard_normal(size),
        "ramp": 0.2 * place,
        "powers": 2.0 ** (-place / 2),
        "ties": generator.integers(-2, 3, size).astype(float),
    }[kind]
    got = sa.TotalVariation(lambd).prox(torch.tensor(x), 1.0)
    expected = by_the_dual(x, lambd) if size > 1 else x
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-8)


def test_rows_and_dims_are_independent():
    x = torch.randn(3, 40, 2, dtype=torch.float64)
    got = sa.TotalVariation(0.5, dim=1).prox(x, 2.0)
    for i in range(3):
        for j in range(2):
            alone = sa.TotalVariation(1.0).prox(x[i, :, j], 1.0)
            torch.testing.assert_close(got[i, :, j], alone)


def test_pieces_are_exactly_constant_and_keep_their_sum():
    x = torch.cat([torch.zeros(50), torch.ones(50), torch.full((50,), 0.2)])
    noisy = (x + 0.1 * torch.randn(150)).float()
    smooth = sa.TotalVariation(1.5).prox(noisy, 1.0)
    assert 2 <= int(smooth.diff().count_nonzero()) <= 6
    assert (smooth - x).square().mean() < 0.3 * (noisy - x).square().mean()
    torch.testing.assert_close(smooth.sum(), noisy.sum())
    flat = sa.TotalVariation(1e4).prox(noisy, 1.0)
    assert not flat.diff().any()


def test_the_gradient_of_the_exact_prox():
    x = torch.randn(2, 9, dtype=torch.float64, requires_grad=True)
    level = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    prox = lambda x, level: sa.TotalVariation(1.0).prox(x, level)  # noqa: E731
    assert torch.autograd.gradcheck(prox, (x, level))


def plane_cost(u, x, lambd, isotropic):
    down, across = np.diff(u, axis=0), np.diff(u, axis=1)
    down, across = np.pad(down, ((0, 1), (0, 0))), np.pad(across, ((0, 0), (0, 1)))
    jumps = np.hypot(down, across) if isotropic else np.abs(down) + np.abs(across)
    return 0.5 * ((u - x) ** 2).sum() + lambd * jumps.sum()


@pytest.mark.parametrize("isotropic", [True, False])
def test_two_dims_equal_the_dual_of_scipy(isotropic):
    generator = np.random.default_rng(0)
    x, lambd = generator.standard_normal((4, 5)), 0.4
    penalty = sa.TotalVariation(lambd, dim=(0, 1), isotropic=isotropic, tol=1e-13, steps=20_000)
    value = float(penalty(torch.tensor(x)))
    assert value == pytest.approx(plane_cost(x, x, lambd, isotropic))
    got = penalty.prox(torch.tensor(x), 1.0).numpy()
    if isotropic:  # no descent from the result, nor lower from elsewhere
        least = plane_cost(got, x, lambd, True)
        for start in (got, x, np.zeros_like(x)):
            found = minimize(
                lambda u: plane_cost(u.reshape(x.shape), x, lambd, True),
                start.ravel(),
                method="BFGS",
            )
            assert found.fun >= least - 1e-8
        return
    rows = [np.diff(np.eye(4), axis=0), np.diff(np.eye(5), axis=0)]
    differences = np.vstack([np.kron(rows[0], np.eye(5)), np.kron(np.eye(4), rows[1])])
    dual = lsq_linear(differences.T, x.ravel(), (-lambd, lambd), method="bvls", tol=1e-14).x
    np.testing.assert_allclose(got.ravel(), x.ravel() - differences.T @ dual, atol=1e-5)


def test_one_row_of_a_plane_is_the_exact_case():
    x = torch.randn(2, 1, 30, dtype=torch.float64)
    exact = sa.TotalVariation(0.7).prox(x, 1.0)
    for isotropic in (True, False):
        plane = sa.TotalVariation(0.7, dim=(-2, -1), isotropic=isotropic, tol=1e-12, steps=20_000)
        torch.testing.assert_close(plane.prox(x, 1.0), exact, atol=1e-5, rtol=0)


def test_it_denoises_a_photograph():
    clean = torch.tensor(load_sample_image("flower.jpg")[150:214, 230:294]).float().mean(-1) / 255
    noisy = clean + 0.1 * torch.randn(64, 64)
    smooth = sa.TotalVariation(0.08, dim=(0, 1), tol=1e-4).prox(noisy, 1.0)
    assert (smooth - clean).square().mean() < 0.3 * (noisy - clean).square().mean()


def test_codes_in_a_dictionary_are_optimal():
    """The fused lasso's smooth part: no neighbour of the codes costs less."""
    x = torch.randn(2, 12, dtype=torch.float64)
    atoms = torch.nn.functional.normalize(torch.randn(20, 12, dtype=torch.float64))
    penalty = sa.TotalVariation(0.3)
    codes = sparse_code(x, atoms, penalty, steps=50_000, tol=1e-9, gradient="implicit")
    cost = (x - codes @ atoms).square().sum() / 2 + penalty(codes)
    assert (codes.diff(dim=1) == 0).any()
    for size in (1e-1, 1e-3):
        for change in torch.randn(30, 2, 20, dtype=torch.float64):
            other = codes + size * change
            assert (x - other @ atoms).square().sum() / 2 + penalty(other) >= cost - 1e-8


def test_proximal_training_gives_constant_pieces():
    model = torch.nn.Linear(30, 1, bias=False)
    inner = torch.optim.SGD(model.parameters(), lr=0.02)
    optimizer = sa.optim.Proximal(inner, model, {"weight": sa.TotalVariation(0.2)})
    x = torch.randn(200, 30)
    target = x[:, 10:20].sum(1, keepdim=True)
    for _ in range(150):
        optimizer.zero_grad()
        (model(x) - target).square().mean().backward()
        optimizer.step()
    assert int(model.weight.diff(dim=1).count_nonzero()) <= 6
    assert float(model.weight.detach()[0, 10:20].mean()) > 0.8


def test_steps_that_do_not_suffice_are_said():
    x = torch.randn(30, 30)
    with pytest.warns(UserWarning, match="TotalVariation reached a relative gap .* raise steps="):
        sa.TotalVariation(1.0, dim=(0, 1), tol=1e-12, steps=5).prox(x, 1.0)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: sa.TotalVariation(1.0, dim=(0, 1, 2)), "dim= must be one dim or two"),
        (lambda: sa.TotalVariation(1.0, dim=(0, -2))(torch.ones(2, 2)), "same dim twice"),
        (lambda: sa.TotalVariation(1.0, dim=2)(torch.ones(2, 2)), "dim=2 does not exist"),
        (lambda: sa.TotalVariation(1.0, tol=-1.0), "tol="),
        (lambda: sa.TotalVariation(1.0, steps=0), "steps="),
        (lambda: sa.TotalVariation(1.0)(torch.ones(2) + 0j), "complex"),
        (
            lambda: sa.TotalVariation(1.0).prox(torch.ones(2), torch.ones(2)),
            "its own step size",
        ),
        (
            lambda: sparse_code(torch.ones(2, 2), torch.eye(2), sa.TotalVariation(1.0, dim=0)),
            "reaches across signals",
        ),
        (
            lambda: sparse_code(
                torch.ones(2, 2), torch.eye(2), sa.TotalVariation(1.0), positive=True
            ),
            "positive= is not implemented for TotalVariation",
        ),
    ],
)
def test_wrong_input_is_one_clear_error(run, message):
    with pytest.raises(ValueError, match=message):
        run()
