"""``sparsact denoise --method learned``."""

import warnings
from functools import partial

import numpy as np
import pytest
from PIL import Image

from noisy_files import call, error, noisy, scene
from sparsact._common.errors import InputError
from sparsact.denoise import denoise_learned, fine_tune_denoiser


def saved(path, image):
    Image.fromarray(image).save(path)
    return path


@pytest.mark.parametrize("planes", [0, 3])
@pytest.mark.parametrize("name", ["in.png", "in.tif"])
def test_images(tmp_path, planes, name):
    image = noisy(scene(planes))
    source = saved(tmp_path / name, image)
    target = tmp_path / f"out{source.suffix}"
    assert call(source, target, method="learned") == 0
    result = np.asarray(Image.open(target))
    expected = denoise_learned(image, channel_dim=-1 if planes else None)
    np.testing.assert_array_equal(result, expected)
    assert error(result, scene(planes)) < 0.5 * error(image, scene(planes))


def test_a_folder_with_a_known_sigma(tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(2):
        saved(tmp_path / "in" / f"{number}.png", noisy(scene()))
    assert call(tmp_path / "in", tmp_path / "out", method="learned", sigma="15") == 0
    expected = denoise_learned(noisy(scene()), sigma=15.0)
    for number in range(2):
        result = np.asarray(Image.open(tmp_path / "out" / f"{number}.png"))
        np.testing.assert_array_equal(result, expected)


def test_missing_values_and_photon_noise(tmp_path):
    counts = np.random.default_rng(0).poisson(scene() / 8).astype(np.float32)
    counts[5:9, 7] = np.nan
    np.save(tmp_path / "in.npy", counts)
    source, target = tmp_path / "in.npy", tmp_path / "out.npy"
    assert call(source, target, method="learned", noise="poisson") == 0
    np.testing.assert_array_equal(np.load(target), denoise_learned(counts, noise="poisson"))


def test_fine_tuning(tmp_path, monkeypatch):
    few = partial(fine_tune_denoiser, steps=2, crop=32)
    monkeypatch.setattr("sparsact.denoise.learned_files.fine_tune_denoiser", few)
    source = saved(tmp_path / "in.png", noisy(scene()))
    assert call(source, tmp_path / "out.png", method="learned", fine_tune=True) == 0
    image = noisy(scene()).astype(np.float32)
    expected = denoise_learned(image, network=few(image))
    result = np.asarray(Image.open(tmp_path / "out.png"))
    assert np.abs(result - expected.clip(0, 255)).max() <= 0.51


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"wavelet": "haar"}, "wavelet= is for method=wavelet"),
        ({"levels": 2}, "levels= is for method=wavelet"),
        ({"threshold": "visu"}, "threshold= is for method=wavelet"),
        ({"shrink": "hard"}, "shrink= is for method=wavelet"),
        ({"spins": "2"}, "cycle_spins= is for method=wavelet"),
        ({"ycbcr": True}, "ycbcr= is for method=wavelet"),
        ({"border": "zero"}, "border= is for method=wavelet"),
        ({"sigma": "level"}, "sigma=level is for method=wavelet"),
        ({"method": "wavelet", "fine_tune": True}, "fine_tune= is for method=learned"),
    ],
)
def test_options_of_the_other_method(tmp_path, flags, message):
    source = saved(tmp_path / "in.png", noisy(scene()))
    with pytest.raises(InputError, match=message):
        call(source, tmp_path / "out.png", **({"method": "learned"} | flags))
    assert not (tmp_path / "out.png").exists()


def test_noise_outside_the_training_is_one_line(tmp_path, capsys):
    source = saved(tmp_path / "in.png", noisy(scene()))
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert call(source, tmp_path / "out.png", method="learned", sigma="200") == 0
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("warning: denoise_learned: σ is")


def test_signals_and_volumes_are_refused(tmp_path):
    np.save(tmp_path / "signal.npy", np.random.default_rng(0).standard_normal(200))
    np.save(tmp_path / "volume.npy", np.random.default_rng(0).standard_normal((20, 20, 20)))
    for name, dims in (("signal", None), ("volume", 3)):
        with pytest.raises(InputError, match="method=learned is for images"):
            call(tmp_path / f"{name}.npy", tmp_path / "out.npy", method="learned", dims=dims)


def test_images_that_are_too_small_to_learn_from(tmp_path):
    source = saved(tmp_path / "in.png", noisy(scene())[:20])
    with pytest.raises(InputError, match="24 pixels"):
        call(source, tmp_path / "out.png", method="learned", fine_tune=True)
