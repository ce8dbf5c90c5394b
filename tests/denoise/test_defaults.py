"""What is right without any setting: depth, noise, and the kinds of numbers."""

import warnings

import numpy as np
import pytest
import pywt
import torch
from PIL import Image, ImageDraw, ImageFont

from sparsact._common.errors import InputError
from sparsact.denoise import WaveletShrink, denoise_wavelet, estimate_sigma
from sparsact.denoise.wavelet_filters import filter_bank
from sparsact.denoise.wavelet_transform import decompose, keys, recompose

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from skimage import data, restoration


def psnr(x, clean, peak=1.0):
    return -10 * np.log10(np.square(np.asarray(x, float) - clean).mean() / peak**2)


def photo(size, sigma=25 / 255):
    clean = data.camera()[200 : 200 + size, 180 : 180 + size] / 255
    return clean, clean + sigma * np.random.default_rng(0).standard_normal(clean.shape)


@pytest.mark.parametrize(("size", "gain"), [(16, 1.2), (32, 1.7), (64, 1.7), (128, 0.2)])
def test_small_images_are_denoised_better_than_by_scikit_image(size, gain):
    camera = data.camera() / 255
    places = np.random.default_rng(1).integers(0, 512 - size, (12, 2))
    clean = np.stack([camera[y : y + size, x : x + size] for y, x in places])
    noisy = clean + 25 / 255 * np.random.default_rng(0).standard_normal(clean.shape)
    theirs = psnr(
        [restoration.denoise_wavelet(x, wavelet="db2", rescale_sigma=True) for x in noisy], clean
    )
    once, every = (psnr(denoise_wavelet(noisy, cycle_spins=spins), clean) for spins in (1, "all"))
    assert once > theirs + gain
    assert every > once + 0.4


@pytest.mark.parametrize("spins", [1, "all"])
def test_a_short_ecg(spins):
    ecg = pywt.data.ecg()[:64] / 255
    noisy = ecg + 0.1 * np.random.default_rng(0).standard_normal(64)
    result = denoise_wavelet(noisy, dims=1, cycle_spins=spins)
    assert psnr(result, ecg) > psnr(noisy, ecg) + 3


@pytest.mark.parametrize(
    ("sizes", "large", "expected"),
    [
        ((512, 512), False, (4, 4)),
        ((512, 64), False, (4, 4)),
        ((3000, 32), False, (6, 3)),
        ((512, 64), True, (2, 2)),
        ((512, 512), True, (4, 4)),
        ((16, 512, 512), False, (2, 4, 4)),
        ((4096,), False, (7,)),
        ((64,), False, (4,)),
        ((4,), False, (1,)),
    ],
)
def test_the_default_depth(sizes, large, expected):
    assert filter_bank("db2").depths(sizes, large_thresholds=large) == expected


@pytest.mark.parametrize("stationary", [False, True])
@pytest.mark.parametrize("depths", [(1, 3), (4, 2), (2, 1, 3)])
def test_a_depth_for_each_dim(depths, stationary):
    """Levels of few dims are those of PyWavelets along these axes."""
    x = torch.randn(40, *(48,) * len(depths), dtype=torch.float64)[:2]
    bands = decompose(x, filter_bank("db2"), depths, len(depths), stationary)
    torch.testing.assert_close(recompose(bands), x, rtol=0, atol=1e-10)
    if stationary:
        return
    rest = x.numpy()
    for level, details in enumerate(reversed(bands.details), 1):
        axes = [dim + 1 for dim, depth in enumerate(depths) if level <= depth]
        theirs = pywt.dwtn(rest, "db2", axes=axes)
        rest = theirs["a" * len(axes)]
        names = keys(len(depths), bands.is_split(level))
        assert len(names) == len(details) == len(theirs) - 1
        for name, band in zip(names, details, strict=True):
            own = "".join(name[axis - 1] for axis in axes)
            np.testing.assert_allclose(band, theirs[own], atol=1e-12)


def test_levels_as_an_argument():
    x = np.random.default_rng(0).standard_normal((32, 200))
    for levels in ((3, 5), 3, np.int64(3)):
        assert denoise_wavelet(x, levels=levels, cycle_spins="all").shape == x.shape
    by_band = [{"ad": 0.1}, *[{"ad": 0.1, "da": 0.1, "dd": 0.1}] * 3]
    np.testing.assert_allclose(
        denoise_wavelet(x, levels=(3, 4), threshold=by_band),
        denoise_wavelet(x, levels=(3, 4), threshold=0.1),
    )
    for levels, message in (
        ((3,), "one entry for each of 2 dims"),
        ((5, 5), "levels=5 must be between 1 and 3"),
        (5, "levels=5 must be between 1 and 3"),
    ):
        with pytest.raises(InputError, match=message):
            denoise_wavelet(x, levels=levels)
    with pytest.raises(TypeError, match="levels= must be an integer"):
        denoise_wavelet(x, levels=2.0)


def screenshot(size=11, smooth=True):
    picture = Image.new("L", (320, 240), 245)
    draw = ImageDraw.Draw(picture)
    draw.fontmode = "L" if smooth else "1"
    font = ImageFont.load_default(size)
    for top in range(2, 240, round(1.5 * size)):
        draw.text((2, top), "The quick brown fox jumps over the lazy dog " * 2, 20, font)
    draw.rectangle((100, 50, 180, 90), fill=120)
    draw.ellipse((30, 120, 90, 200), fill=60)
    return np.asarray(picture)


DRAWINGS = {
    "text": screenshot,
    "black and white text": lambda: screenshot(14, smooth=False),
    "horse": lambda: data.horse().astype(np.uint8),
    "checkerboard": data.checkerboard,
    "phantom": data.shepp_logan_phantom,
    "blobs": lambda: data.binary_blobs(128).astype(float),
    "steps": lambda: np.rint(np.add.outer(np.arange(200) / 7, np.arange(180) / 3)),
}


@pytest.mark.parametrize("wavelet", ["haar", "db2", "sym4"])
@pytest.mark.parametrize("name", DRAWINGS)
def test_a_clean_drawing_is_left_alone(name, wavelet):
    drawing = DRAWINGS[name]()
    assert estimate_sigma(drawing, wavelet) == 0
    for spins in (1, "all"):
        for sigma in (None, "level"):
            result = denoise_wavelet(drawing, wavelet, cycle_spins=spins, sigma=sigma)
            np.testing.assert_array_equal(result, drawing)


def test_a_layer_leaves_a_clean_drawing_alone():
    layer = WaveletShrink(relative=True, lambd=3.0)
    drawing = torch.from_numpy(screenshot().copy()).float()
    torch.testing.assert_close(layer(drawing), drawing)


def test_clean_signals_and_volumes_are_left_alone():
    steps = np.repeat([0.0, 1.0, 0.5, 2.0], 64)
    np.testing.assert_array_equal(denoise_wavelet(steps, dims=1, cycle_spins="all"), steps)
    ball = (np.square(np.mgrid[-12:12, -12:12, -12:12]).sum(0) < 80).astype(np.float32)
    np.testing.assert_array_equal(denoise_wavelet(ball, dims=3), ball)
    batch = np.stack([steps, steps + 0.1 * np.random.default_rng(0).standard_normal(256)])
    both = denoise_wavelet(batch, dims=1)
    np.testing.assert_array_equal(both[0], steps)
    assert psnr(both[1], steps) > psnr(batch[1], steps) + 3


@pytest.mark.parametrize("wavelet", ["haar", "db2"])
@pytest.mark.parametrize("radius", [30, 60, 100])
@pytest.mark.parametrize("background", [0.0, 0.7])
def test_an_image_on_a_constant_background_is_denoised(background, radius, wavelet):
    clean, noisy = photo(256)
    inside = np.hypot(*np.mgrid[-128:128, -128:128]) < radius
    image = np.where(inside, noisy, background)
    sigma = estimate_sigma(image, wavelet).item()
    assert sigma == pytest.approx(estimate_sigma(noisy, wavelet).item(), rel=0.25)
    whole = denoise_wavelet(noisy, wavelet, cycle_spins="all")
    result = denoise_wavelet(image, wavelet, cycle_spins="all")
    inner = np.hypot(*np.mgrid[-128:128, -128:128]) < radius - 12
    assert psnr(result[inner], clean[inner]) > psnr(whole[inner], clean[inner]) - 0.8
    assert psnr(result[inner], clean[inner]) > psnr(noisy[inner], clean[inner]) + 4


@pytest.mark.parametrize("sigma", [0.7, 1.5, 6.0])
def test_noise_of_rounded_values_is_estimated(sigma):
    """Small noise makes many differences of integers zero."""
    image = 100.3 + sigma * np.random.default_rng(0).standard_normal((256, 256))
    assert estimate_sigma(np.rint(image).astype(np.uint8)) == pytest.approx(sigma, rel=0.12)


INTEGERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]


@pytest.mark.parametrize("dtype", [*INTEGERS, ">u2", "<i4"])
def test_arrays_of_integers(dtype):
    limits = np.iinfo(dtype)
    top = min(limits.max, 2**52)
    clean, noisy = photo(64)
    image = np.clip(np.rint(noisy * top), limits.min, top).astype(dtype)
    result = denoise_wavelet(image, cycle_spins="all")
    assert isinstance(result, np.ndarray)
    assert result.dtype == np.dtype(dtype)
    expected = denoise_wavelet(image.astype(float), cycle_spins="all")
    rounded = np.clip(np.rint(expected), limits.min, limits.max)
    np.testing.assert_allclose(result.astype(float), rounded, rtol=1e-6, atol=1)
    assert psnr(result / top, clean) > psnr(image / top, clean) + 3
    if "u" not in dtype and "<" not in dtype:
        tensor = denoise_wavelet(torch.from_numpy(image), cycle_spins="all")
        np.testing.assert_array_equal(tensor.numpy(), result)
        assert tensor.numpy().dtype == image.dtype


def test_results_are_clipped_to_the_range_of_the_dtype():
    image = np.where(np.random.default_rng(0).random((64, 64)) < 0.5, 0, 255).astype(np.uint8)
    result = denoise_wavelet(image, "haar", threshold=20.0)
    exact = denoise_wavelet(image.astype(float), "haar", threshold=20.0)
    np.testing.assert_allclose(result, np.clip(np.rint(exact), 0, 255), atol=1)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble", ">f4"])
def test_arrays_of_floats(dtype):
    noisy = photo(48)[1].astype(dtype)
    result = denoise_wavelet(noisy, levels=1)
    assert result.dtype == np.dtype(dtype)
    tensor = torch.from_numpy(noisy.astype(float))
    atol = 1e-12 if noisy.itemsize >= 8 else 2e-3 if noisy.itemsize == 2 else 1e-5
    expected = denoise_wavelet(tensor, levels=1).numpy()
    np.testing.assert_allclose(result.astype(float), expected, atol=atol)
    assert isinstance(estimate_sigma(noisy), np.ndarray | np.generic)


def test_lists_and_layouts():
    noisy = photo(40)[1]
    expected = denoise_wavelet(noisy)
    assert denoise_wavelet(noisy.tolist()) == expected.tolist()
    np.testing.assert_array_equal(denoise_wavelet(np.asfortranarray(noisy)), expected)
    np.testing.assert_array_equal(denoise_wavelet(noisy[::-1])[::-1].shape, expected.shape)
    assert isinstance(estimate_sigma(noisy.tolist()), float)
    counts = np.rint(noisy * 50).astype(int).tolist()
    assert isinstance(denoise_wavelet(counts)[0][0], float)  # a Python number has no range
    sigma = np.full(2, 0.1, np.float32)
    both = denoise_wavelet(np.stack([noisy, noisy]), sigma=sigma)
    np.testing.assert_allclose(both[0], denoise_wavelet(noisy, sigma=np.float32(0.1)))


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ([[1.0, 2.0], [3.0]], ValueError, "lists of different lengths"),
        (np.array([[None, 1.0]]), TypeError, "expects integer, floating-point"),
        (np.array([["2020"]], "datetime64"), TypeError, "expects integer, floating-point"),
        ((1.0, 2.0), TypeError, "got tuple"),
        (np.full((8, 8), 2**60), ValueError, "up to ±2⁵³"),
        (np.float64(3.0), TypeError, "got float64"),
    ],
)
def test_what_holds_no_numbers(wrong, error, message):
    for function in (denoise_wavelet, estimate_sigma):
        with pytest.raises(error, match=message):
            function(wrong)
