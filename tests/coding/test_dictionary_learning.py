"""Learned dictionaries against scikit-learn's, and against a dictionary that is known."""

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import MiniBatchDictionaryLearning

import sparsact as sa
from sparsact._common.errors import InputError
from sparsact.coding import fit_dictionary, sparse_code


@pytest.fixture(scope="module")
def digits():
    images = load_digits().data[:800] / 16
    return torch.tensor(images - images.mean(0))


def objective(x, atoms, level):
    codes = sparse_code(x, atoms, sa.L1(level), method="cd", tol=1e-8)
    return float((x - codes @ atoms).square().sum() / 2 + level * codes.abs().sum()) / len(x)


@pytest.mark.parametrize("method", ["alternating", "online"])
def test_the_objective_is_at_most_scikit_learns(digits, method):
    learned = fit_dictionary(digits, 30, sa.L1(0.3), method=method)
    peer = MiniBatchDictionaryLearning(30, alpha=0.3, max_iter=20, fit_algorithm="cd")
    peer.set_params(random_state=0, transform_algorithm="lasso_cd").fit(digits.numpy())
    ours = objective(digits, learned.atoms, 0.3)
    assert ours <= 1.01 * objective(digits, torch.tensor(peer.components_), 0.3)
    assert torch.allclose(learned.atoms.norm(dim=1), torch.ones(30).double())
    expected = sparse_code(digits, learned.atoms, sa.L1(0.3), tol=1e-8, steps=5000)
    assert torch.allclose(learned.codes, expected, atol=0.02)
    assert learned.history[-1] < 0.95 * learned.history[0]
    if method == "alternating":
        assert (learned.history.diff() <= 1e-4).all()
        assert ours <= float(learned.history[-1]) + 1e-4


@pytest.mark.parametrize("method", ["alternating", "online"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_known_dictionary_is_found(method, dtype):
    generator = torch.Generator().manual_seed(0)
    atoms = torch.randn(12, 10, generator=generator)
    atoms /= atoms.norm(dim=1, keepdim=True)
    codes = torch.randn(900, 12, generator=generator)
    codes *= torch.rand(900, 12, generator=generator) < 0.12
    x = (codes @ atoms).to(dtype)
    learned = fit_dictionary(x, 12, sa.L1(0.05), method=method, epochs=100, tol=0.0)
    assert learned.atoms.dtype == dtype
    match = (learned.atoms.float() @ atoms.t()).abs().amax(0)
    assert (match > 0.98).sum() >= 11


@pytest.mark.parametrize("method", ["alternating", "online"])
def test_dead_atoms_are_revived(digits, method):
    start = torch.cat([digits[:10], torch.zeros(10, 64).double()])
    start[10:, 0] = 1.0  # a pixel that is always 0
    learned = fit_dictionary(digits, 20, sa.L1(0.5), method=method, start=start)
    assert learned.revived >= 10
    assert (learned.codes != 0).any(0).all()
    assert torch.allclose(learned.atoms.norm(dim=1), torch.ones(20).double())


def test_shapes_positive_codes_and_other_penalties(digits):
    data = digits[:60].view(6, 10, 64)
    learned = fit_dictionary(data, 8, sa.L1(0.3), positive=True, epochs=3)
    assert learned.codes.shape == (6, 10, 8)
    assert (learned.codes >= 0).all()
    assert learned.codes.any()
    groups = fit_dictionary(digits[:60], 8, sa.GroupLasso(0.3, group_size=2), epochs=3)
    pairs = groups.codes.view(60, 4, 2) != 0
    assert torch.equal(pairs.any(2), pairs.all(2))
    again = fit_dictionary(data, 8, sa.L1(0.3), positive=True, epochs=3)
    assert torch.equal(again.atoms, learned.atoms)
    other = fit_dictionary(data, 8, sa.L1(0.3), positive=True, epochs=3, seed=1)
    assert not torch.equal(other.atoms, learned.atoms)


def test_more_atoms_than_signals_and_signals_of_zeros():
    few = fit_dictionary(torch.eye(3), 5, sa.L1(0.1), epochs=3)
    assert few.atoms.isfinite().all()
    assert torch.allclose(few.atoms.norm(dim=1), torch.ones(5))
    empty = fit_dictionary(torch.zeros(4, 3), 2, epochs=3)
    assert not empty.codes.any()
    assert torch.allclose(empty.atoms.norm(dim=1), torch.ones(2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"atoms": 0}, "atoms="),
        ({"epochs": 0}, "epochs="),
        ({"data": torch.empty(0, 4)}, "data= must not be empty"),
        ({"data": torch.full((2, 4), torch.nan)}, "NaN"),
        ({"start": torch.ones(2, 4)}, "start= must have shape"),
        ({"method": "ksvd"}, "method="),
        ({"penalty": sa.Hoyer(1.0)}, "no proximal operator"),
    ],
)
def test_wrong_input_is_one_clear_error(change, message):
    arguments = {"data": torch.ones(2, 4), "atoms": 3}
    with pytest.raises(InputError, match=message):
        fit_dictionary(**(arguments | change))
