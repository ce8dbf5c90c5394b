"""The transform against PyWavelets; its inverse and its gradients."""

import numpy as np
import pytest
import pywt
import torch

from sparsact.denoise.wavelet_filters import filter_bank
from sparsact.denoise.wavelet_transform import decompose, keys, recompose

SHAPES = [(64,), (37,), (33, 47), (16, 9), (9, 10, 11)]
WAVELETS = ["haar", "db2", "sym4", "bior2.2", "rbio3.1", "coif1"]


@pytest.mark.parametrize("wavelet", WAVELETS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.filterwarnings("ignore:Level value")
def test_decimated_equals_pywavelets(shape, wavelet):
    x = torch.randn(3, *shape, dtype=torch.float64)
    ours = decompose(x, filter_bank(wavelet), 2, len(shape), stationary=False)
    theirs = pywt.wavedecn(x.numpy(), wavelet, level=2, axes=range(1, x.ndim))
    np.testing.assert_allclose(ours.approximation, theirs[0], atol=1e-12)
    for bands, level in zip(ours.details, theirs[1:], strict=True):
        for key, band in zip(keys(len(shape)), bands, strict=True):
            np.testing.assert_allclose(band, level[key], atol=1e-12)


@pytest.mark.parametrize("stationary", [False, True])
@pytest.mark.parametrize("wavelet", WAVELETS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_recompose_inverts(shape, wavelet, stationary):
    x = torch.randn(2, *shape, dtype=torch.float64)
    bands = decompose(x, filter_bank(wavelet), 3, len(shape), stationary)
    torch.testing.assert_close(recompose(bands), x, rtol=0, atol=1e-10)


@pytest.mark.parametrize("ndim", [1, 2])
def test_stationary_holds_the_coefficients_of_every_shift(ndim):
    """Compared away from the borders, where shifted blocks are mirrored differently."""
    x = np.random.default_rng(0).standard_normal((128,) * ndim)
    ours = decompose(torch.from_numpy(x), filter_bank("db2"), 2, ndim, stationary=True)
    middle = slice(10, 22)
    for shift in range(4):
        moved = x[(slice(shift, None),) * ndim]
        theirs = pywt.wavedecn(moved, "db2", level=2)
        for bands, level, step in zip(ours.details, theirs[1:], (4, 2), strict=True):
            for key, band in zip(keys(ndim), bands.numpy(), strict=True):
                inner = level[key][(middle,) * ndim]
                # pywt's coefficient k of a level sits at sample step·(k + 1) − 1 + shift
                first = step * (middle.start + 1) - 1 + shift
                at = slice(first, first + step * (middle.stop - middle.start), step)
                np.testing.assert_allclose(band[(at,) * ndim], inner, atol=1e-12)


@pytest.mark.parametrize("stationary", [False, True])
def test_gradients(stationary):
    x = torch.randn(2, 7, 8, dtype=torch.float64, requires_grad=True)

    def both_ways(x):
        bands = decompose(x, filter_bank("db2"), 2, 2, stationary)
        return recompose(bands.with_details([values**3 for values in bands.details]))

    assert torch.autograd.gradcheck(both_ways, x)
    assert torch.autograd.gradgradcheck(both_ways, x)


def test_a_signal_shorter_than_its_border_is_mirrored_again():
    x = torch.randn(10, dtype=torch.float64)
    bank = filter_bank("db5")
    ours = decompose(x, bank, 1, 1, stationary=False).approximation
    np.testing.assert_allclose(ours, pywt.dwt(x.numpy(), "db5")[0], atol=1e-12)
    stationary = decompose(x, bank, 2, 1, stationary=True)
    torch.testing.assert_close(recompose(stationary), x)


@pytest.mark.parametrize(
    ("name", "message"),
    [("db200", "did you mean 'db20'"), ("morl", "discrete"), ("", "wavelist"), ("db", "db")],
)
def test_unknown_wavelets(name, message):
    with pytest.raises(ValueError, match=message):
        filter_bank(name)


def test_a_wavelet_object():
    assert filter_bank(pywt.Wavelet("db2")) == filter_bank("db2")
    with pytest.raises(TypeError, match="NoneType"):
        filter_bank(None)
