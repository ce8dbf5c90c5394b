"""Dask arrays: the result of the whole, chunk by chunk."""

import numpy as np
import pytest

import sparsact as sa
from sparsact.denoise import denoise_tiles, denoise_wavelet

da = pytest.importorskip("dask.array")
RNG = np.random.default_rng(0)
IMAGE = np.kron(RNG.standard_normal((5, 7)), np.ones((31, 22)))  # (155, 154)
NOISY = IMAGE + 0.3 * RNG.standard_normal(IMAGE.shape)


@pytest.mark.parametrize("threshold", ["bayes", "visu", 0.4])
@pytest.mark.parametrize("sigma", [None, 0.3])
@pytest.mark.parametrize("chunks", [64, (50, 33), 200])
def test_an_image_in_chunks_equals_the_whole(chunks, sigma, threshold):
    options = {"threshold": threshold, "sigma": sigma, "levels": 3}
    lazy = sa.denoise_wavelet(da.from_array(NOISY, chunks=chunks), **options)
    assert (lazy.shape, lazy.dtype) == (NOISY.shape, NOISY.dtype)
    whole = denoise_wavelet(NOISY, cycle_spins="all", **options)
    np.testing.assert_allclose(lazy.compute(scheduler="synchronous"), whole, atol=1e-9)


@pytest.mark.parametrize(
    ("shape", "dims", "channel"), [((900,), 1, None), ((2, 3, 700), 1, None), ((40, 44, 3), 2, 2),
                                   ((3, 40, 44), 2, -3), ((2, 20, 24, 28), 3, None)]
)  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_signals_colours_and_volumes(shape, dims, channel, dtype):
    values = (100 * RNG.standard_normal(shape).cumsum(dims - 1) + 9000).astype(dtype)
    options = {"threshold": "visu", "levels": 1, "dims": dims}
    lazy = denoise_wavelet(
        da.from_array(values, chunks=64 if dims == 1 else 16), channel_dim=channel, **options
    )
    moved = values if channel is None else np.moveaxis(values, channel, 0)
    whole = denoise_tiles(moved, **options)
    whole = whole if channel is None else np.moveaxis(whole, 0, channel)
    result = lazy.compute(scheduler="synchronous")
    assert result.dtype == dtype
    if dtype == np.uint16:
        assert np.abs(result.astype(int) - whole).max() <= 1
    np.testing.assert_allclose(result, whole, atol=1 if dtype == np.uint16 else 0.02)


def test_a_clean_array_is_unchanged():
    lazy = denoise_wavelet(da.from_array(IMAGE, chunks=64))
    np.testing.assert_array_equal(lazy.compute(scheduler="synchronous"), IMAGE)


def test_nothing_is_computed_before_it_is_needed():
    def fail(block):
        raise AssertionError

    denoise_wavelet(da.from_array(NOISY, chunks=64).map_blocks(fail, dtype=float, meta=NOISY[:0]))


def test_a_local_cluster():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
    ):
        result = denoise_wavelet(da.from_array(NOISY, chunks=80), levels=3).compute()
    whole = denoise_wavelet(NOISY, levels=3, cycle_spins="all")
    np.testing.assert_allclose(result, whole, atol=1e-9)


@pytest.mark.parametrize(
    ("flags", "error", "message"),
    [
        ({"threshold": "sure"}, ValueError, "threshold= of this kind is not for dask"),
        ({"sigma": "level"}, ValueError, "sigma= of this kind is not for dask"),
        ({"noise": "poisson"}, ValueError, "noise= of this kind is not for dask"),
        ({"mask": NOISY > 0}, ValueError, "mask= of this kind is not for dask"),
        ({"border": "zero"}, ValueError, "border= of this kind is not for dask"),
        ({"dims": (0, 1)}, ValueError, "dims= of this kind is not for dask"),
        ({"dims": 3}, ValueError, "dims=3 does not fit"),
        ({"shrink": "sotf"}, ValueError, "did you mean 'soft'"),
        ({"sigma": -1.0}, ValueError, "sigma= must be finite"),
    ],
)
def test_wrong_arguments(flags, error, message):
    with pytest.raises(error, match=message):
        denoise_wavelet(da.from_array(NOISY, chunks=64), **flags).compute(scheduler="synchronous")


def test_wrong_arrays():
    with pytest.raises(TypeError, match="dask arrays of integers or floats"):
        denoise_wavelet(da.from_array(NOISY > 0, chunks=64))
    holes = NOISY.copy()
    holes[3, 4] = np.nan
    with pytest.raises(ValueError, match="no NaN or infinite"):
        denoise_wavelet(da.from_array(holes, chunks=64)).compute(scheduler="synchronous")
