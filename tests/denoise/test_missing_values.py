"""Masks, NaN, noise that differs between samples, borders, and complex numbers."""

import warnings

import numpy as np
import pytest
import pywt
import torch

from sparsact._common.errors import InputError
from sparsact.denoise import denoise_learned, denoise_wavelet, estimate_sigma
from sparsact.denoise.missing_values import fill

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from skimage import data

SIGMA = 0.1


def psnr(x, clean):
    return -10 * np.log10(np.square(np.abs(np.asarray(x) - clean)).mean())


CLEAN = data.camera()[::2, ::2] / 255
NOISY = CLEAN + SIGMA * np.random.default_rng(0).standard_normal(CLEAN.shape)
Y, X = np.mgrid[:256, :256]
MASKS = {
    "dots": np.random.default_rng(1).random(CLEAN.shape) > 0.05,
    "many dots": np.random.default_rng(1).random(CLEAN.shape) > 0.4,
    "block": ~((Y > 60) & (Y < 120) & (X > 70) & (X < 150)),
    "disc only": np.hypot(Y - 128, X - 128) < 90,
    "stripes": Y % 16 > 2,
}


@pytest.mark.parametrize("spins", [1, "all"])
@pytest.mark.parametrize("name", MASKS)
def test_missing_values_are_kept_and_do_not_spread(name, spins):
    valid = MASKS[name]
    holes = np.where(valid, NOISY, np.nan)
    result = denoise_wavelet(holes, cycle_spins=spins)
    np.testing.assert_array_equal(np.isnan(result), ~valid)
    whole = denoise_wavelet(NOISY, cycle_spins=spins)
    loss = 1.3 if name == "many dots" else 0.5
    assert psnr(result[valid], CLEAN[valid]) > psnr(whole[valid], CLEAN[valid]) - loss
    for value in (-9999.0, np.inf, 1e300):
        marked = np.where(valid, NOISY, value)
        masked = denoise_wavelet(marked, cycle_spins=spins, mask=valid)
        np.testing.assert_array_equal(masked[~valid], value)
        np.testing.assert_array_equal(masked[valid], result[valid])
    sigma = estimate_sigma(NOISY).item()
    assert estimate_sigma(marked, mask=valid) == pytest.approx(sigma, rel=0.2)
    assert estimate_sigma(holes) == estimate_sigma(marked, mask=valid)


@pytest.mark.parametrize("threshold", ["bayes", "visu", "sure", "fdr"])
def test_rules_do_not_count_missing_values(threshold):
    """Half of the image is missing: the other half is denoised as if it were alone."""
    valid = X < 128
    options = {"threshold": threshold, "levels": 3, "cycle_spins": "all"}
    result = denoise_wavelet(NOISY, mask=valid, **options)
    alone = denoise_wavelet(NOISY[:, :128], **options)
    inner = np.abs(result[:, :100] - alone[:, :100])
    assert inner.mean() < 0.005
    np.testing.assert_array_equal(result[:, 128:], NOISY[:, 128:])


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", "float64", "float16"])
def test_masked_values_keep_their_bits(dtype):
    image = np.clip(NOISY * 200, 0, 255).astype(dtype)
    valid = MASKS["block"]
    for kind in (np.asarray, torch.from_numpy):
        result = denoise_wavelet(kind(image), mask=kind(valid))
        bits = np.asarray(result)[~valid].tobytes()
        assert bits == image[~valid].tobytes()
    rows = denoise_wavelet(image, mask=valid[:1] | True)  # a mask broadcasts
    np.testing.assert_array_equal(rows, denoise_wavelet(image))
    lists = denoise_wavelet(image.tolist(), mask=valid.tolist())
    np.testing.assert_array_equal(np.asarray(lists)[~valid], image[~valid])


def test_bits_of_nan_are_kept():
    image = NOISY.astype(np.float32)
    image.view(np.uint32)[5, 5:9] = [0x7FC12345, 0xFFC00001, 0x7FC00000, 0x7FC0BEEF]
    for kind in (np.asarray, torch.from_numpy):
        result = np.asarray(denoise_wavelet(kind(image.copy())))
        assert result[5, 5:9].tobytes() == image[5, 5:9].tobytes()
        assert np.isfinite(np.delete(result, 5, 0)).all()


def test_masked_arrays():
    hidden = ~MASKS["dots"]
    masked = np.ma.MaskedArray(np.where(hidden, 1e9, NOISY), hidden)
    result = denoise_wavelet(masked)
    assert isinstance(result, np.ma.MaskedArray)
    np.testing.assert_array_equal(result.mask, hidden)
    expected = denoise_wavelet(NOISY, mask=~hidden)
    np.testing.assert_array_equal(result.data[~hidden], expected[~hidden])
    np.testing.assert_array_equal(result.data[hidden], 1e9)
    plain = np.ma.MaskedArray(NOISY)
    np.testing.assert_array_equal(denoise_wavelet(plain).data, denoise_wavelet(NOISY))


def test_signals_colours_and_volumes_with_holes():
    rng = np.random.default_rng(0)
    ecg = pywt.data.ecg() / 200
    signal = np.stack([ecg, ecg]) + 0.1 * rng.standard_normal((2, 1024))
    signal[0, 300:330] = np.nan
    result = denoise_wavelet(signal, dims=1, cycle_spins="all")
    assert np.isnan(result[0, 300:330]).all()
    assert np.isfinite(np.delete(result[0], np.s_[300:330])).all()
    assert psnr(result[0, 340:], ecg[340:]) > psnr(signal[0, 340:], ecg[340:]) + 3
    alone = denoise_wavelet(signal[1], dims=1, cycle_spins="all")
    np.testing.assert_allclose(result[1], alone, rtol=0, atol=1e-12)
    colours = np.stack([NOISY, NOISY * 0.5, NOISY * 0.2], -1)
    colours[3:9, 4:40, 1] = np.nan
    for ycbcr in (False, True):
        result = denoise_wavelet(colours, channel_dim=-1, ycbcr=ycbcr)
        assert np.isnan(result).sum() == 6 * 36
    volume = rng.standard_normal((16, 20, 24))
    volume[3, 4, 5] = np.nan
    assert np.isnan(denoise_wavelet(volume, dims=3)).sum() == 1


def test_all_or_nothing_missing():
    nothing = np.full((40, 40), np.nan)
    assert np.isnan(denoise_wavelet(nothing)).all()
    assert estimate_sigma(nothing) == 0
    one = np.where(np.arange(1600).reshape(40, 40) == 5, 3.0, np.nan)
    assert denoise_wavelet(one)[0, 5] == 3
    ones = np.ones((40, 40), bool)
    np.testing.assert_array_equal(
        denoise_wavelet(NOISY[:40, :40], mask=ones), denoise_wavelet(NOISY[:40, :40])
    )


@pytest.mark.parametrize("shape", [(50,), (31, 44), (9, 8, 7)], ids=str)
def test_filling_by_neighbours(shape):
    known = np.random.default_rng(0).random(shape) > 0.4
    ramp = np.add.reduce(np.meshgrid(*map(np.arange, shape), indexing="ij"), dtype=float)
    filled = fill(torch.from_numpy(ramp), torch.from_numpy(~known), len(shape)).numpy()
    np.testing.assert_array_equal(filled[known], ramp[known])
    assert np.abs(filled - ramp).mean() < 0.6
    assert filled.min() >= ramp[known].min()
    assert filled.max() <= ramp[known].max()


def test_gradients_with_holes():
    x = torch.randn(8, 9, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(8, 9) > 0.2
    assert torch.autograd.gradcheck(
        lambda x: denoise_wavelet(x, "haar", 2, mask=mask, cycle_spins="all"), x
    )


@pytest.mark.parametrize("spins", [1, 2, "all"])
def test_a_map_of_the_noise(spins):
    flat = denoise_wavelet(NOISY, sigma=SIGMA, cycle_spins=spins)
    for level in (np.full(NOISY.shape, SIGMA), np.full((256, 1), SIGMA), np.full((1, 1), SIGMA)):
        result = denoise_wavelet(NOISY, sigma=level, cycle_spins=spins)
        np.testing.assert_allclose(result, flat, rtol=0, atol=1e-9)
    level = 0.02 + 0.2 * X / 256
    noisy = CLEAN + level * np.random.default_rng(0).standard_normal(CLEAN.shape)
    by_pixel = psnr(denoise_wavelet(noisy, sigma=level, cycle_spins=spins), CLEAN)
    assert by_pixel > psnr(denoise_wavelet(noisy, cycle_spins=spins), CLEAN) + 2


@pytest.mark.parametrize("threshold", ["bayes", "visu", "sure", "fdr"])
def test_noise_of_each_channel_and_level(threshold):
    batch = np.stack([NOISY[:64, :64], NOISY[64:128, :64]])
    options = {"threshold": threshold, "levels": 3, "cycle_spins": "all"}
    apart = [denoise_wavelet(x, sigma=s, **options) for x, s in zip(batch, (0.1, 0.2), strict=True)]
    for sigma in ([[[0.1]], [[0.2]]], [0.1, 0.2]):
        together = denoise_wavelet(batch, sigma=np.array(sigma), **options)
        np.testing.assert_allclose(together, apart, rtol=0, atol=1e-9)
    by_level = denoise_wavelet(batch, sigma=[0.1, 0.1, 0.1], **options)
    np.testing.assert_allclose(by_level, denoise_wavelet(batch, sigma=0.1, **options))
    fine_only = denoise_wavelet(batch, sigma=[0.0, 0.0, 0.1], **options)
    coarse = [pywt.wavedec2(x, "haar", level=3)[0] for x in (fine_only[0], batch[0])]
    assert np.abs(coarse[0] - coarse[1]).max() < 0.1


def test_variances_of_coefficients_are_those_of_many_draws():
    from sparsact.denoise.wavelet_filters import filter_bank
    from sparsact.denoise.wavelet_transform import decompose

    level = torch.linspace(0.2, 2, 64, dtype=torch.float64)
    draws = level * torch.randn(4000, 64, dtype=torch.float64)
    bank = filter_bank("db2")
    expected = decompose(level.square(), bank.squared, 1, 1, True).details[0][0].sqrt()
    measured = decompose(draws, bank, 1, 1, True).details[0][0].std(0)
    torch.testing.assert_close(measured[4:-4], expected[4:-4], rtol=0.08, atol=0)


@pytest.mark.parametrize(
    ("border", "mode"),
    [("mirror", "symmetric"), ("periodic", "periodic"), ("zero", "zero"), ("constant", "constant")],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_borders_equal_pywavelets(border, mode, dtype):
    image = NOISY[:61, :48].astype(dtype)
    levels = pywt.wavedecn(image, "db2", mode, level=2)
    for level in levels[1:]:
        for key in level:
            level[key] = pywt.threshold(level[key], 0.2, "soft")
    theirs = pywt.waverecn(levels, "db2", mode)[:61, :48]
    ours = denoise_wavelet(image, levels=2, threshold=0.2, border=border)
    np.testing.assert_allclose(ours, theirs, atol=1e-10 if dtype == np.float64 else 1e-5)


def test_a_periodic_image_has_no_border():
    """With all shifts, a rolled image gives the rolled result."""
    image = NOISY[:64, :64]
    options = {"levels": 3, "threshold": 0.2, "cycle_spins": "all", "border": "periodic"}
    rolled = denoise_wavelet(np.roll(image, (5, 9), (0, 1)), **options)
    np.testing.assert_allclose(
        rolled, np.roll(denoise_wavelet(image, **options), (5, 9), (0, 1)), atol=1e-10
    )


@pytest.mark.parametrize("spins", [1, 2, "all"])
@pytest.mark.parametrize("threshold", ["bayes", "visu", "sure", "fdr", 0.2])
def test_complex_images(threshold, spins):
    phase = np.exp(1j * X / 40)
    noise = np.random.default_rng(0).standard_normal((2, *CLEAN.shape))
    noisy = CLEAN * phase + SIGMA * (noise[0] + 1j * noise[1])
    options = {"threshold": threshold, "cycle_spins": spins}
    result = denoise_wavelet(noisy, **options)
    assert result.dtype == np.complex128
    parts = [denoise_wavelet(part, **options) for part in (noisy.real, noisy.imag)]
    assert psnr(result, CLEAN * phase) > psnr(parts[0] + 1j * parts[1], CLEAN * phase) - 0.1
    turned = denoise_wavelet(noisy * np.exp(0.7j), sigma=SIGMA, **options)
    np.testing.assert_allclose(
        turned, denoise_wavelet(noisy, sigma=SIGMA, **options) * np.exp(0.7j), atol=1e-10
    )


def test_complex_numbers_of_every_kind():
    noisy = NOISY[:64, :64] * (1 + 0.5j)
    expected = denoise_wavelet(noisy, levels=2)
    for x in (
        noisy.astype(np.complex64),
        torch.from_numpy(noisy),
        torch.from_numpy(noisy).cfloat(),
    ):
        result = denoise_wavelet(x, levels=2)
        assert result.dtype == x.dtype
        np.testing.assert_allclose(np.asarray(result), expected, atol=1e-5)
    np.testing.assert_allclose(denoise_wavelet(noisy.tolist(), levels=2), expected)
    holes = np.where(MASKS["dots"][:64, :64], noisy, complex(np.nan, 1))
    result = denoise_wavelet(holes, levels=2)
    assert result[np.isnan(holes)].tobytes() == holes[np.isnan(holes)].tobytes()
    signal = denoise_wavelet(noisy[0], dims=1, cycle_spins="all")
    assert signal.shape == (64,)
    x = torch.from_numpy(noisy[:8, :8]).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: denoise_wavelet(x, "haar", 1, sigma=0.1), x)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"mask": np.ones((3, 3), bool)}, ValueError, "mask= of shape"),
        ({"mask": np.ones((32, 32))}, TypeError, "mask= must be a boolean"),
        ({"mask": "all"}, TypeError, "mask= must be a boolean"),
        ({"border": "miror"}, ValueError, "did you mean 'mirror'"),
        ({"sigma": np.ones((3, 32))}, ValueError, "sigma= of shape"),
        ({"sigma": -np.ones((32, 32))}, ValueError, "sigma= must be finite and not negative"),
        ({"sigma": np.full((32, 32), np.nan)}, ValueError, "sigma= must be finite"),
        ({"sigma": [0.1]}, ValueError, "one entry for each of the 2 levels"),
        ({"sigma": [0.1, "x"]}, TypeError, "sigma= must be a number"),
        ({"sigma": [0.1, np.ones(3)]}, ValueError, "does not broadcast"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        denoise_wavelet(np.random.default_rng(0).random((32, 32)), levels=2, **arguments)


def test_wrong_numbers():
    x = np.random.default_rng(0).random((32, 32))
    x[3, 4] = np.inf
    with pytest.raises(InputError, match="infinite entries; exclude them with mask="):
        denoise_wavelet(x)
    with pytest.raises(InputError, match="infinite entries"):
        estimate_sigma(x)
    x = x.astype(np.float32)
    x[3, 4] = np.finfo(np.float32).min  # a fill value that nobody declared
    for function in (denoise_wavelet, estimate_sigma, denoise_learned):
        with pytest.raises(InputError, match="whose squares overflow"):
            function(x)
    assert denoise_wavelet(x, mask=x >= 0)[x >= 0].max() < 2
    with pytest.raises(TypeError, match="expects real numbers"):
        estimate_sigma(x + 1j)
    with pytest.raises(InputError, match="ycbcr=True takes no complex"):
        denoise_wavelet(np.ones((16, 16, 3), complex), channel_dim=-1, ycbcr=True)
