import pytest
import torch
from scipy.optimize import minimize
from sklearn.datasets import load_digits

import sparsact as sa
from sparsact._common.errors import InputError
from sparsact.coding import ALISTA, LISTA, solve_sparse_code, sparse_code


@pytest.fixture
def atoms():
    return torch.nn.functional.normalize(torch.randn(20, 12, dtype=torch.float64))


@pytest.mark.parametrize("tied", [True, False])
def test_untrained_lista_equals_ista(atoms, tied):
    x = torch.randn(5, 12, dtype=torch.float64)
    for steps in (1, 7):
        codes = LISTA(atoms, steps, lambd=0.2, tied=tied)(x)
        expected = solve_sparse_code(x, atoms, sa.L1(0.2), method="ista", steps=steps, tol=0)
        assert torch.allclose(codes, expected.codes, rtol=0, atol=1e-6)  # λ is kept in float32


@pytest.mark.parametrize("kind", ["positive", "complex"])
def test_untrained_lista_equals_ista_on_codes_of_other_kinds(atoms, kind):
    x, positive = torch.randn(5, 12, dtype=torch.float64), kind == "positive"
    if kind == "complex":
        atoms, x = (torch.complex(t, t.roll(1, -1)) for t in (atoms, x))
    codes = LISTA(atoms, 7, lambd=0.2, positive=positive)(x)
    expected = solve_sparse_code(
        x, atoms, sa.L1(0.2), method="ista", steps=7, tol=0, positive=positive
    )
    torch.testing.assert_close(codes, expected.codes, rtol=0, atol=1e-6)
    assert positive == bool((codes.real >= 0).all())


def test_momentum_is_fistas(atoms):
    x = torch.randn(5, 12, dtype=torch.float64)
    codes = LISTA(atoms, 30, lambd=0.2, momentum=True)(x)
    best = sparse_code(x, atoms, sa.L1(0.2), steps=5000, tol=1e-12)
    plain = LISTA(atoms, 30, lambd=0.2)(x)
    assert (codes - best).norm() < 0.5 * (plain - best).norm()


def test_thresholds_scale_with_the_noise(atoms):
    net = LISTA(atoms, 5, lambd=0.3)
    x = torch.randn(4, 12, dtype=torch.float64)
    assert torch.allclose(net(3 * x, 3.0), 3 * net(x), atol=1e-6)
    sigma = torch.tensor([[1.0], [2.0], [3.0], [4.0]], dtype=torch.float64)
    assert torch.allclose(net(sigma * x, sigma), sigma * net(x), atol=1e-6)


@pytest.mark.parametrize("kind", [LISTA, ALISTA])
def test_every_parameter_learns_and_any_threshold_fits(atoms, kind):
    def hard(lambd, count):
        return sa.nn.Hardshrink(lambd, learnable=True, num_parameters=count, channel_dim=-1)

    for threshold in ({}, {"threshold": hard}):
        net = kind(atoms, 3, 0.3, momentum=True, **threshold)
        net(torch.randn(2, 3, 12, dtype=torch.float64)).square().sum().backward()
        assert net(torch.randn(2, 3, 12, dtype=torch.float64)).shape == (2, 3, 20)
        for name, parameter in net.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name


def test_analytic_weights_minimise_the_coherence(atoms):
    """Against a general optimiser, row by row."""
    net = ALISTA(atoms, 1)
    assert torch.allclose((net.encoder * atoms).sum(1), torch.ones(20, dtype=torch.float64))
    matrix = atoms.numpy()
    for row in (0, 7):
        found = minimize(
            lambda w: ((w @ matrix.T) ** 2).sum(),
            matrix[row],
            constraints={"type": "eq", "fun": lambda w, row=row: w @ matrix[row] - 1},
            options={"ftol": 1e-14},
        )
        assert torch.allclose(net.encoder[row], torch.tensor(found.x), atol=1e-4)


def test_alista_converges_to_sparse_signals():
    torch.manual_seed(3)
    atoms = torch.nn.functional.normalize(torch.randn(40, 30, dtype=torch.float64))
    codes = torch.zeros(50, 40, dtype=torch.float64)
    codes.scatter_(1, torch.randint(40, (50, 2)), 1.0)
    net = ALISTA(atoms, 100, lambd=0.02)
    error = (net(codes @ atoms) - codes).norm() / codes.norm()
    assert error < 0.1


def test_ten_trained_steps_reach_the_objective_of_thirty_fista_steps():
    """On digits that the network has not seen."""
    torch.manual_seed(0)
    images = torch.tensor(load_digits().data, dtype=torch.float32) / 16
    images = images - images.mean(1, keepdim=True)
    atoms = torch.nn.functional.normalize(images[torch.randperm(300)[:96]])
    train, test = images[300:1500], images[1500:]
    net = LISTA(atoms, 10, lambd=0.1, tied=False, momentum=True)
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)

    def objective(codes, x):
        return (x - codes @ atoms).square().sum(1).mean() / 2 + 0.1 * codes.abs().sum(1).mean()

    fista = solve_sparse_code(test, atoms, sa.L1(0.1), steps=30, tol=0).codes
    untrained = objective(net(test), test).item()
    for _ in range(150):
        batch = train[torch.randint(len(train), (256,))]
        loss = objective(net(batch), batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.1)
        optimizer.step()
    trained = objective(net(test), test).item()
    best = objective(sparse_code(test, atoms, sa.L1(0.1), steps=20_000, tol=1e-5), test).item()
    assert best <= trained < untrained
    assert trained <= objective(fista, test).item()


@pytest.mark.parametrize("kind", [LISTA, ALISTA])
def test_wrong_input_is_one_clear_error(kind):
    with pytest.raises(InputError, match="dictionary="):
        kind(torch.randn(3), 2)
    with pytest.raises(InputError, match="at least one atom"):
        kind(torch.empty(0, 3), 2)
    with pytest.raises(InputError, match="steps="):
        kind(torch.eye(3), 0)
    with pytest.raises(InputError, match=r"positive=|must be real"):
        kind(torch.eye(3) + 0j, 2, positive=True)


def test_analytic_weights_need_enough_atoms():
    with pytest.raises(InputError, match="do not span"):
        ALISTA(torch.randn(3, 5), 2)
