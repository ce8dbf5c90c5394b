"""Files that are denoised on another device."""

import numpy as np
import pytest
from PIL import Image

from noisy_files import call, noisy, scene
from second_device import DEVICE, SecondDevice
from sparsact._common.errors import InputError


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "noisy.png"
    Image.fromarray(noisy(scene(planes=3))).save(path)
    return path


@pytest.mark.parametrize("has_float64", [True, False])
@pytest.mark.parametrize("flags", [{}, {"method": "learned"}, {"noise": "poisson"}], ids=str)
def test_the_result_is_the_same(source, tmp_path, flags, has_float64):
    here, there = tmp_path / "here.png", tmp_path / "there.png"
    call(source, here, **flags)
    with SecondDevice(has_float64=has_float64):
        call(source, there, device=str(DEVICE), **flags)
    expected, result = (np.asarray(Image.open(path)).astype(int) for path in (here, there))
    assert np.abs(result - expected).max() <= 1
    assert (result != np.asarray(Image.open(source))).any()


def test_a_table_in_float64(tmp_path):
    source, here, there = (tmp_path / f"{name}.csv" for name in ("noisy", "here", "there"))
    values = np.sin(np.arange(400) / 20) + 0.1 * np.random.default_rng(0).standard_normal(400)
    np.savetxt(source, values)
    call(source, here)
    for has_float64, tolerance in ((True, 1e-12), (False, 1e-5)):
        with SecondDevice(has_float64=has_float64):
            call(source, there, device=str(DEVICE), force=True)
        np.testing.assert_allclose(np.loadtxt(there), np.loadtxt(here), atol=tolerance)


def test_a_device_that_is_not_there(source, tmp_path):
    for device in ("cuda:7", "nonsense"):
        with pytest.raises(InputError, match=f"device={device} cannot be used here"):
            call(source, tmp_path / "out.png", device=device)
    assert not (tmp_path / "out.png").exists()
