"""Noise that is not Gaussian: photon counts, magnitudes of MRI, speckle."""

import warnings

import numpy as np
import pytest
import torch
from scipy import stats

from sparsact._common.errors import InputError
from sparsact.denoise import MultiplicativeNoise, PoissonNoise, RicianNoise, denoise_wavelet

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from skimage import data

CLEAN = data.camera() / 255


def psnr(x, clean):
    return -10 * np.log10(np.square(np.asarray(x) - clean).mean())


def anscombe(counts, **options):
    """By hand, as people write it around a Gaussian denoiser."""
    stable = denoise_wavelet(2 * np.sqrt(counts + 0.375), sigma=1.0, **options)
    return np.square(stable / 2) - 0.125


@pytest.mark.parametrize("peak", [2, 5, 20, 100])
@pytest.mark.parametrize("spins", [1, "all"])
def test_photon_counts(peak, spins):
    counts = np.random.default_rng(0).poisson(peak * CLEAN)
    by_hand = psnr(anscombe(counts.astype(float), cycle_spins=spins) / peak, CLEAN)
    plain = psnr(denoise_wavelet(counts.astype(float), cycle_spins=spins) / peak, CLEAN)
    for noise in (PoissonNoise(gain=1.0), "poisson", "poisson-gaussian"):
        result = denoise_wavelet(counts.astype(float), noise=noise, cycle_spins=spins) / peak
        assert psnr(result, CLEAN) > by_hand - 0.03
        assert psnr(result, CLEAN) > plain + 1
        assert np.abs(result.mean() - CLEAN.mean()) < 0.02 * CLEAN.mean()
    rounded = denoise_wavelet(counts, noise="poisson", cycle_spins=spins)
    assert rounded.dtype == counts.dtype


@pytest.mark.parametrize(("gain", "offset", "read_noise"), [(1, 0, 0), (0.5, 0, 0), (4, 100, 6)])
def test_the_inverse_is_unbiased(gain, offset, read_noise):
    """E[f(x)] is the mean over a million draws, and by SciPy's distribution without read noise."""
    model = PoissonNoise(gain, offset, read_noise)
    rng = np.random.default_rng(0)
    for mean in (0.0, 0.05, 0.4, 1.0, 3.0, 12.0, 150.0, 198.0, 210.0, 1000.0):
        photons = rng.poisson(mean, 10**6)
        draws = gain * photons + offset + read_noise * rng.standard_normal(10**6)
        draws = draws[: 10**6 // 64 * 64].reshape(-1, 64)
        stable = model.stabilise(torch.from_numpy(draws), None, 2)
        expected = stable.values.mean()
        atol = 4 * float(stable.values.std()) / 1000
        if read_noise == 0:
            p = np.arange(2500)
            expected = torch.tensor(stats.poisson.pmf(p, mean) @ (2 * np.sqrt(p + 0.375)))
            atol = 1e-4
        found = float((stable.inverse(expected) - offset) / gain)
        assert found == pytest.approx(mean, abs=1.1 * atol * max(0.3, mean) ** 0.5 + 2e-3)
        if mean > 4:
            assert float(stable.values.std()) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(
    ("gain", "offset", "read_noise"), [(2, 10, 3), (0.1, 0, 0.2), (30, 500, 0)]
)
def test_a_sensor_is_estimated_from_one_image(gain, offset, read_noise):
    rng = np.random.default_rng(0)
    image = gain * rng.poisson(50 * CLEAN) + offset + read_noise * rng.standard_normal(CLEAN.shape)
    x = torch.from_numpy(image)
    both = PoissonNoise(offset=None, read_noise=None).fitted(x, None, 2)
    assert both.gain == pytest.approx(gain, rel=0.1)
    at_zero = both.read_noise**2 - both.gain * both.offset
    middle = gain * 25 + offset
    variance = gain**2 * 25 + read_noise**2
    assert both.gain * middle + at_zero == pytest.approx(variance, rel=0.1)
    known_offset = PoissonNoise(offset=offset, read_noise=None).fitted(x, None, 2)
    assert known_offset.read_noise == pytest.approx(read_noise, abs=0.5 * gain + 0.1 * read_noise)
    known = PoissonNoise(None, offset, read_noise).fitted(x, None, 2)
    assert known.gain == pytest.approx(gain, rel=0.06)
    scores = [
        psnr((denoise_wavelet(image, noise=noise) - offset) / (50 * gain), CLEAN)
        for noise in (PoissonNoise(gain, offset, read_noise), "poisson-gaussian", "gaussian")
    ]
    assert scores[1] > scores[0] - 0.1
    assert scores[1] > scores[2] + 0.5


@pytest.mark.parametrize("signal", [0.0, 0.3, 1.0, 3.0, 10.0, 19.0, 30.0])
def test_rician_moments(signal):
    sigma = 0.7
    distribution = stats.rice(signal, scale=sigma)
    draws = distribution.rvs(10**6, random_state=0)[: 10**6 // 64 * 64].reshape(-1, 64)
    stable = RicianNoise(sigma).stabilise(torch.from_numpy(draws), None, 2)
    spread = float(stable.values.std())
    assert spread == pytest.approx(1, abs=0.12)
    found = float(stable.inverse(stable.values.mean())) / sigma
    slack = 0.15 if signal < 0.5 else 0.02  # near 0 the mean hardly depends on the signal
    assert found == pytest.approx(signal, abs=slack)


@pytest.mark.parametrize("sigma", [0.05, 0.1, 0.2])
def test_magnitudes_with_a_dark_background(sigma):
    clean = np.where(CLEAN > 0.3, CLEAN, 0)
    rng = np.random.default_rng(0)
    parts = sigma * rng.standard_normal((2, *clean.shape))
    noisy = np.hypot(clean + parts[0], parts[1])
    plain = psnr(denoise_wavelet(noisy, cycle_spins="all"), clean)
    for noise, options in (("rician", {}), (RicianNoise(sigma), {}), ("rician", {"sigma": sigma})):
        result = denoise_wavelet(noisy, noise=noise, cycle_spins="all", **options)
        assert psnr(result, clean) > plain + 2.5


def test_speckle():
    rng = np.random.default_rng(0)
    noisy = CLEAN * rng.gamma(20, 1 / 20, CLEAN.shape)
    plain = psnr(denoise_wavelet(noisy, cycle_spins="all"), CLEAN)
    result = denoise_wavelet(noisy, noise="multiplicative", cycle_spins="all")
    assert psnr(result, CLEAN) > plain + 3
    assert result.mean() == pytest.approx(noisy.mean(), rel=1e-6)
    assert (result[noisy == 0] == 0).all()
    known = denoise_wavelet(noisy, noise=MultiplicativeNoise(0.22), cycle_spins="all")
    assert psnr(known, CLEAN) > plain + 3


@pytest.mark.parametrize("noise", ["poisson", "poisson-gaussian", "rician", "multiplicative"])
def test_layouts_and_missing_values(noise):
    rng = np.random.default_rng(0)
    counts = rng.poisson(30 * CLEAN[100:228, 100:228] + 5).astype(float)
    options = {"noise": noise, "cycle_spins": "all"}
    expected = denoise_wavelet(counts, **options)
    np.testing.assert_allclose(denoise_wavelet(counts.tolist(), **options), expected)
    tensor = denoise_wavelet(torch.from_numpy(counts), **options)
    np.testing.assert_allclose(tensor.numpy(), expected)
    np.testing.assert_allclose(
        denoise_wavelet(counts[:, None], dims=(0, 2), **options)[:, 0], expected
    )
    holes = counts.copy()
    holes[40:50, 30:60] = np.nan
    result = denoise_wavelet(holes, **options)
    known = ~np.isnan(holes)
    assert np.isnan(result[~known]).all()
    assert np.abs(result - expected)[known].mean() < 1
    marked = denoise_wavelet(np.where(known, counts, -9999), mask=known, **options)
    np.testing.assert_array_equal(marked[known], result[known])
    assert (marked[~known] == -9999).all()
    colours = np.stack([counts, counts, counts], -1)
    both = denoise_wavelet(colours, channel_dim=-1, ycbcr=True, **options)
    assert both.shape == colours.shape
    signals = denoise_wavelet(counts, dims=1, **options)
    assert signals.shape == counts.shape


def test_gradients():
    x = torch.rand(6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 9 + 0.5
    x.requires_grad_()
    for noise in (PoissonNoise(1.0), RicianNoise(0.7), MultiplicativeNoise(0.4)):
        assert torch.autograd.gradcheck(
            lambda x, noise=noise: denoise_wavelet(x, "haar", 1, 0.3, noise=noise), x
        )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"noise": "poison"}, ValueError, "did you mean 'poisson'"),
        ({"noise": None}, TypeError, "noise= must be a name or a noise model"),
        ({"noise": "poisson", "sigma": 1.0}, ValueError, "sigma= does not go with Poisson"),
        ({"noise": "rician", "sigma": "level"}, ValueError, "sigma= must be a number"),
        ({"noise": "rician", "sigma": -1.0}, ValueError, "sigma= must be positive"),
        ({"noise": "poisson"}, ValueError, "cannot be below offset=0"),
        ({"noise": PoissonNoise(1.0, 5.0)}, ValueError, "cannot be below offset=5"),
        ({"noise": "rician"}, ValueError, "magnitudes cannot be negative"),
        ({"noise": "multiplicative"}, ValueError, "not negative"),
    ],
)
def test_wrong_arguments(options, error, message):
    x = np.random.default_rng(0).standard_normal((32, 32))
    with pytest.raises(error, match=message):
        denoise_wavelet(x, **options)


def test_wrong_models():
    for wrong in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(InputError, match="gain= must be positive"):
            PoissonNoise(gain=wrong)
        for model in (RicianNoise, MultiplicativeNoise):
            with pytest.raises(InputError, match="sigma= must be positive"):
                model(wrong)
    with pytest.raises(InputError, match="read_noise= must be finite"):
        PoissonNoise(read_noise=-1.0)
    with pytest.raises(InputError, match="offset= must be finite"):
        PoissonNoise(offset=np.nan)
    flat = np.full((32, 32), 7.0)
    for noise in ("poisson", "poisson-gaussian"):
        with pytest.raises(InputError, match="set gain="):
            denoise_wavelet(flat, noise=noise)
    with pytest.raises(InputError, match="set sigma="):
        denoise_wavelet(flat, noise="rician")
    with pytest.raises(InputError, match="takes no complex"):
        denoise_wavelet(flat + 1j, noise="poisson")
