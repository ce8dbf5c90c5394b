"""The test of what was removed: rarely an alarm on noise, always one on structure."""

import numpy as np
import pytest
import tifffile
import torch
from scipy.signal import periodogram

from noisy_files import call, noisy, scene
from sparsact.denoise import denoise_wavelet, estimate_sigma
from sparsact.denoise.removed_noise import removed_noise


@pytest.mark.parametrize(("shape", "trials"), [((512,), 400), ((48, 56), 400), ((8, 12, 16), 200)])
@pytest.mark.parametrize("known", [True, False])
def test_false_alarms_on_white_noise(shape, trials, known):
    generator = torch.Generator().manual_seed(0)
    noise = 3 * torch.randn(trials, *shape, generator=generator)
    levels = estimate_sigma(noise, dims=len(shape))
    alarms = 0
    for removed, level in zip(noise, levels, strict=True):
        sigma = 3.0 if known else float(level)
        alarms += removed_noise(removed, sigma, len(shape), not known).excess is not None
    assert alarms <= 0.01 * trials + 3 * (0.01 * trials) ** 0.5  # three deviations above 1 %


def test_the_power_is_that_of_a_periodogram():
    x = np.random.default_rng(0).standard_normal(960)
    measured = removed_noise(torch.from_numpy(x), 2.0, 1, False)
    frequency, power = periodogram(x, detrend="constant")
    bands = np.minimum((frequency * 24).astype(int), 11)
    for band in range(12):
        inside = (bands == band) & (frequency > 0)
        weight = np.where(frequency[inside] == 0.5, 0.5, 1.0)
        ordinates = power[inside] / np.where(frequency[inside] == 0.5, 1.0, 2.0) / 4
        np.testing.assert_allclose(measured.power[band], np.average(ordinates, weights=weight))


def test_the_pages_of_a_stack_share_the_false_alarms(tmp_path, capsys):
    noise = np.random.default_rng(0).normal(1000, 30, (60, 48, 56)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "in.tif", noise, photometric="minisblack")
    assert call(tmp_path / "in.tif", tmp_path / "out.tif", levels=2) == 0
    assert "more than noise" not in capsys.readouterr().out


@pytest.mark.parametrize("dims", [1, 2])
def test_structure_is_found(dims):
    rng = np.random.default_rng(0)
    size = 480 if dims == 1 else 96
    wave = np.sin(np.arange(size) / 4)
    noise = rng.standard_normal((size,) * dims)
    removed = torch.from_numpy(noise + (wave if dims == 1 else 0.6 * wave * wave[:, None]))
    measured = removed_noise(removed, 1.0, dims, False)
    assert measured.excess is not None
    assert abs(measured.excess - (0.04 if dims == 1 else 0.056)) < 0.04


def test_a_good_result_gives_no_alarm_and_a_blurred_one_does(tmp_path, capsys):
    image = noisy(scene(size=(120, 128)))
    np.save(tmp_path / "in.npy", image)
    assert call(tmp_path / "in.npy", tmp_path / "good.npy") == 0
    assert "more than noise" not in capsys.readouterr().out
    assert call(tmp_path / "in.npy", tmp_path / "bad.npy", threshold="300") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "more than noise was removed, at 0.0" in said
    clean = denoise_wavelet(image.astype(float), cycle_spins="all")
    measured = removed_noise(torch.from_numpy(image - clean), 0.06 * 255, 2, False)
    assert measured.excess is None
