"""PyWavelets' own tests of its thresholds, run on this library's functions.

They come from the installed package. The adapter adds features of PyWavelets that torch users do
not need: array-likes, complex numbers, `substitute`, and its open edge (it keeps |x| = λ).
"""

import numpy as np
import pytest
import pywt
import torch

import sparsact.functional as SF

theirs = pytest.importorskip("pywt.tests.test_thresholding")


def on_magnitudes(x, shrink):
    """Apply a function of a real tensor to real or complex arrays; the phase is kept."""
    if not np.iscomplexobj(x):
        return shrink(torch.from_numpy(x)).numpy()
    magnitude = np.abs(x)
    shrunk = shrink(torch.from_numpy(magnitude)).numpy()
    phase = x / np.where(magnitude == 0, 1, magnitude)
    return (shrunk * phase).astype(x.dtype)


def below(value, dtype):
    """The λ with a closed band that ends just before `value`."""
    return float(np.nextafter(np.asarray(value, dtype), np.asarray(-1, dtype)))


def threshold(data, value, mode="soft", substitute=0):
    x = np.asarray(data)
    x = x if np.issubdtype(x.dtype, np.inexact) else x.astype(np.float64)
    if mode in ("greater", "less") and np.iscomplexobj(x):
        raise ValueError(f"{mode} takes real numbers")
    real = x.real.dtype
    functions = {
        "soft": lambda t: SF.softshrink(t, value),
        "hard": lambda t: SF.hardshrink(t, below(value, real)),
        "garotte": lambda t: SF.garrote(t, value),
        "greater": lambda t: SF.jumprelu(t, below(value, real)),
        "less": lambda t: t - SF.jumprelu(t, value),
    }
    if mode not in functions:
        raise ValueError(mode)
    result = on_magnitudes(x, functions[mode])
    return np.where(result == 0, np.asarray(substitute, x.dtype), result) if substitute else result


def threshold_firm(data, value_low, value_high):
    return on_magnitudes(np.asarray(data), lambda t: SF.firmshrink(t, value_low, value_high))


@pytest.mark.parametrize("name", [name for name in dir(theirs) if name.startswith("test_")])
def test_theirs(name, monkeypatch):
    monkeypatch.setattr(pywt, "threshold", threshold)
    monkeypatch.setattr(pywt, "threshold_firm", threshold_firm)
    getattr(theirs, name)()


@pytest.mark.parametrize("mode", ["soft", "hard", "garotte"])
def test_equal_apart_from_the_edge(mode):
    x = np.random.default_rng(0).standard_normal(1000)
    np.testing.assert_allclose(threshold(x, 0.5, mode), pywt.threshold(x, 0.5, mode), atol=1e-15)
    assert pywt.threshold(np.array([0.5]), 0.5, "hard")[0] == 0.5
    assert SF.hardshrink(torch.tensor([0.5]), 0.5) == 0


def test_firm_equals_theirs():
    x = np.random.default_rng(0).standard_normal(1000)
    np.testing.assert_allclose(
        threshold_firm(x, 0.4, 1.1), pywt.threshold_firm(x, 0.4, 1.1), atol=1e-15
    )
