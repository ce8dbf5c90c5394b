"""Numbers of NumPy's types, as those read from an array are; a truth value is no number."""

import numpy as np
import pytest
import torch

import sparsact as sa
import sparsact.functional as SF
from sparsact import coding

X = torch.linspace(-2, 2, 24).view(4, 6)
ATOMS = torch.eye(6)
IMAGE = np.linspace(0, 1, 32 * 32).reshape(32, 32) ** 2

WITH_A_COUNT = {
    "topk": lambda two: SF.topk(X, two),
    "cycle_spins": lambda two: sa.denoise_wavelet(IMAGE, cycle_spins=two),
    "levels": lambda two: sa.denoise_wavelet(IMAGE, levels=two),
    "dims": lambda two: sa.denoise_wavelet(IMAGE, dims=two),
    "steps of LISTA": lambda two: coding.LISTA(ATOMS, two)(X).detach(),
    "steps": lambda two: coding.solve_sparse_code(X, ATOMS, sa.L1(0.1), steps=two).codes,
    "count": lambda two: coding.path(X[0], ATOMS, count=two).codes,
    "group_size": lambda two: SF.group_softshrink(X, 0.1, group_size=two),
}
WITH_A_LEVEL = {
    "softshrink": lambda level: SF.softshrink(X, level),
    "module": lambda level: sa.nn.Hardshrink(level)(X),
    "learned": lambda level: sa.nn.Softshrink(level, learnable=True)(X).detach(),
    "penalty": lambda level: sa.L1(level)(X),
    "prox": lambda level: sa.L1(level).prox(X, 1.0),
    "sigma": lambda level: sa.denoise_wavelet(IMAGE, sigma=level),
    "sparse_code": lambda level: coding.sparse_code(X, ATOMS, sa.L1(level)),
}


@pytest.mark.parametrize("name", WITH_A_COUNT)
@pytest.mark.parametrize("two", [np.int64(2), np.uint8(2)], ids=lambda two: type(two).__name__)
def test_counts(name, two):
    run = WITH_A_COUNT[name]
    np.testing.assert_array_equal(run(two), run(2))


@pytest.mark.parametrize("name", WITH_A_COUNT)
@pytest.mark.parametrize("wrong", [True, np.True_, 2.5, "2"], ids=repr)
def test_what_is_no_count(name, wrong):
    with pytest.raises((ValueError, TypeError)):
        WITH_A_COUNT[name](wrong)


@pytest.mark.parametrize("name", WITH_A_LEVEL)
@pytest.mark.parametrize("half", [np.float32(0.5), np.float64(0.5), np.float16(0.5)], ids=repr)
def test_levels(name, half):
    run = WITH_A_LEVEL[name]
    np.testing.assert_array_equal(run(half), run(0.5))


@pytest.mark.parametrize("name", WITH_A_LEVEL)
@pytest.mark.parametrize("wrong", [np.float32(-0.5), np.float32("nan"), np.True_, "0.5"], ids=repr)
def test_what_is_no_level(name, wrong):
    with pytest.raises((ValueError, TypeError)):
        WITH_A_LEVEL[name](wrong)
