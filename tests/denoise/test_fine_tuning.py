"""`fine_tune_denoiser`: further training on noisy images alone."""

import warnings

import numpy as np
import pytest
import torch

from sparsact._common.errors import InputError
from sparsact.denoise import denoise_learned, fine_tune_denoiser
from sparsact.denoise.denoiser_fitting import PROBE, normal_like, stein_risk
from sparsact.denoise.learned_denoising import shipped_network
from sparsact.denoise.shrinkage_network import ShrinkageNetwork

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from skimage import data


def cells(peak=10, size=128):
    """A cell under a microscope, which differs from photographs, and its photon counts."""
    clean = data.cell()[200 : 200 + size, 200 : 200 + size] / 255
    return clean, np.random.default_rng(0).poisson(peak * clean).astype(float)


def error(x, clean):
    return float(np.square(np.asarray(x) - clean).mean())


def test_it_helps_on_photon_counts_of_cells():
    clean, counts = cells()
    tuned = fine_tune_denoiser(counts, noise="poisson", crop=48)
    before = denoise_learned(counts, noise="poisson") / 10
    after = denoise_learned(counts, noise="poisson", network=tuned) / 10
    assert error(after, clean) < 0.97 * error(before, clean)


def test_the_risk_estimates_the_error():
    clean = torch.tensor(data.camera()[:128, :128] / 20, dtype=torch.float32)[None, None]
    network, generator = shipped_network(1, clean.device), torch.Generator().manual_seed(0)
    risks, errors = [], []
    for _ in range(8):
        noisy, direction = (clean * i + normal_like(clean, generator) for i in (1, 0))
        denoised, probed = network(torch.cat([noisy, noisy + PROBE * direction]), 1.0).chunk(2)
        risk = stein_risk(noisy, denoised, probed, direction, 1.0)
        risks.append(float(risk[..., 8:-8, 8:-8].mean()))
        errors.append(float((denoised - clean)[..., 8:-8, 8:-8].square().mean()))
    assert np.mean(risks) == pytest.approx(np.mean(errors), abs=0.03)


def test_the_network_of_the_package_stays():
    _, counts = cells(size=48)
    before = denoise_learned(counts, noise="poisson")
    tuned = fine_tune_denoiser(counts, noise="poisson", steps=2, crop=32)
    np.testing.assert_array_equal(denoise_learned(counts, noise="poisson"), before)
    assert not any(weight.requires_grad for weight in tuned.parameters())
    after = denoise_learned(counts, noise="poisson", network=tuned)
    assert np.abs(after - before).max() > 0


def test_the_seed_decides():
    _, counts = cells(size=48)
    first, again, other = (
        fine_tune_denoiser(counts, steps=2, crop=32, seed=seed).state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_missing_values_and_images_without_noise_are_not_learned_from():
    _, counts = cells(size=48)
    holes = np.random.default_rng(1).random(counts.shape) < 0.1
    broken = np.stack([np.where(holes, np.nan, counts), np.full_like(counts, 7.0)])
    masked = np.stack([np.where(holes, 1e9, counts), np.full_like(counts, 7.0)])
    mask = np.stack([~holes, np.ones_like(holes)])
    networks = (
        fine_tune_denoiser(broken, steps=2, crop=32),
        fine_tune_denoiser(masked, steps=2, crop=32, mask=mask),
    )
    first, second = (network.state_dict() for network in networks)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(weight.isfinite().all() for weight in first.values())


@pytest.mark.parametrize(("channels", "channel_dim"), [(3, -1), (1, None)])
def test_it_starts_from_another_network(channels, channel_dim):
    start = ShrinkageNetwork(channels, 2)
    x = torch.randn(2, 31, 45, 3) if channels == 3 else torch.randn(2, 31, 45)
    tuned = fine_tune_denoiser(x, channel_dim=channel_dim, steps=1, crop=32, network=start)
    result = denoise_learned(x, sigma=0.2, channel_dim=channel_dim, network=tuned)
    assert result.shape == x.shape
    assert tuned.channels == channels


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (torch.randn(20, 40), {}, "24 pixels"),
        (torch.randn(40, 40), {"crop": 10}, "24 pixels"),
        (torch.zeros(40, 40), {}, "no noise"),
        (torch.randn(40, 40), {"sigma": 0.0}, "no noise"),
        (torch.randn(40, 40), {"sigma": -1.0}, "sigma="),
        (torch.randn(40, 40), {"steps": 0}, "steps="),
        (torch.randn(40, 40), {"batch_size": 0}, "batch_size="),
        (torch.randn(40, 40), {"lr": 0.0}, "lr="),
        (torch.randn(40, 40), {"network": ShrinkageNetwork(3, 1)}, "network="),
        (torch.zeros(0, 40, 40), {"sigma": 1.0}, "no noise"),
    ],
)
def test_wrong_input(x, options, message):
    with pytest.raises(InputError, match=message):
        fine_tune_denoiser(x, **options)


@pytest.mark.parametrize(
    ("x", "options"), [(None, {}), (torch.ones(9, 9) * 1j, {}), (torch.ones(9, 9), {"steps": 1.5})]
)
def test_wrong_kinds(x, options):
    with pytest.raises(TypeError):
        fine_tune_denoiser(x, **options)
