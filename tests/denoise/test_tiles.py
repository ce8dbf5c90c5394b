"""Arrays in tiles: the result of the whole, in bounded memory."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
import pywt

from sparsact._common.errors import InputError
from sparsact.denoise import denoise_tiles, denoise_wavelet

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from skimage import data

NOISY = data.camera()[:300, :250] / 255 + 0.1 * np.random.default_rng(0).standard_normal((300, 250))


@pytest.mark.parametrize("tile", [32, 100, 1024])
@pytest.mark.parametrize("threshold", ["bayes", "visu", 0.2])
@pytest.mark.parametrize("wavelet", ["haar", "sym4"])
def test_tiles_of_an_image_equal_the_whole(wavelet, threshold, tile):
    for sigma in (None, 0.1):
        options = {"wavelet": wavelet, "levels": 3, "threshold": threshold, "sigma": sigma}
        whole = denoise_wavelet(NOISY, cycle_spins="all", **options)
        np.testing.assert_allclose(denoise_tiles(NOISY, tile=tile, **options), whole, atol=1e-9)


def test_defaults_batches_and_dtypes():
    batch = np.stack([NOISY[:200, :200], 2 * NOISY[100:, :200]]).astype(np.float32)
    whole = denoise_wavelet(batch, cycle_spins="all")
    np.testing.assert_allclose(denoise_tiles(batch, tile=64), whole, atol=1e-5)
    counts = np.clip(NOISY * 200, 0, 255).astype(np.uint8)
    result = denoise_tiles(counts, tile=64)
    assert result.dtype == np.uint8
    difference = result.astype(int) - denoise_wavelet(counts, cycle_spins="all")
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 0.001
    rows = np.pad(NOISY, ((0, 0), (0, 38)))  # a depth for each dim, and many zeros
    np.testing.assert_array_equal(denoise_tiles(rows, tile=64).shape, rows.shape)


@pytest.mark.parametrize(("dims", "shape", "tile"), [(1, (3000,), 256), (3, (30, 33, 28), 16)])
@pytest.mark.parametrize("threshold", ["visu", 0.3])
def test_signals_and_volumes(dims, shape, tile, threshold):
    x = np.random.default_rng(0).standard_normal(shape).cumsum(0) / 5
    options = {"threshold": threshold, "dims": dims}
    whole = denoise_wavelet(x, cycle_spins="all", **options)
    np.testing.assert_allclose(denoise_tiles(x, tile=tile, **options), whole, atol=1e-9)


def test_bayes_on_a_signal_has_one_threshold_per_band():
    ecg = pywt.data.ecg() / 200
    noisy = ecg + 0.1 * np.random.default_rng(0).standard_normal(1024)
    result, whole = denoise_tiles(noisy, dims=1, tile=300), denoise_tiles(noisy, dims=1)
    np.testing.assert_allclose(result, whole, atol=1e-9)
    assert np.square(result - ecg).mean() < 0.3 * np.square(noisy - ecg).mean()


def test_a_clean_array_is_copied():
    steps = np.repeat([0.0, 1.0, 0.5, 2.0], 64)
    np.testing.assert_array_equal(denoise_tiles(steps, dims=1, tile=100), steps)


def test_memory_mapped_files_in_bounded_memory(tmp_path):
    """The memory beyond an idle process is that of a few tiles, whatever the size of the file."""
    code = """
import resource, sys
import numpy as np
from sparsact.denoise import denoise_tiles
small = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
denoise_tiles(small, tile=256)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
shape = (3072, 2560)
x = np.lib.format.open_memmap(sys.argv[1] + "/in.npy", "w+", np.float32, shape)
for row in range(0, shape[0], 256):
    x[row : row + 256] = np.random.default_rng(row).standard_normal((256, shape[1]))
out = np.lib.format.open_memmap(sys.argv[1] + "/out.npy", "w+", np.float32, shape)
done = []
denoise_tiles(x, out, tile=512, sigma=1.0, levels=3, progress=lambda *now: done.append(now))
assert done[-1][:2] == (60, 60), done[-1]
assert float(out[100:200].std()) < 0.2
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    # the two files of 30 MB may be counted as well; all bands of the whole would take 400 MB
    assert float(done.stdout) < 200


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"tile": 33}, ValueError, "positive even number"),
        ({"tile": 0}, ValueError, "positive even number"),
        ({"dims": 3}, ValueError, "dims=3 must be between 1 and 2"),
        ({"threshold": "sure"}, TypeError, "threshold= must be a number"),
        ({"shrink": "sotf"}, ValueError, "did you mean 'soft'"),
        ({"sigma": -1.0}, ValueError, "sigma= must be finite"),
        ({"out": np.empty((3, 3))}, ValueError, "out= has the shape"),
        ({"levels": 12}, ValueError, "levels=12 must be between"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        denoise_tiles(NOISY, **arguments)


def test_wrong_arrays():
    with pytest.raises(TypeError, match="expects a NumPy array"):
        denoise_tiles([[1.0]])
    holes = NOISY.copy()
    holes[200, 200] = np.nan
    with pytest.raises(InputError, match="no NaN or infinite"):
        denoise_tiles(holes, tile=64)
