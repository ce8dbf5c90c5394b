"""Files with missing values, with photon noise, and without noise."""

import numpy as np
import pytest
import tifffile

from noisy_files import call, error, noisy, scene
from sparsact._common.errors import InputError
from sparsact.denoise import PoissonNoise, denoise_wavelet


def with_holes(dtype, marker):
    clean = scene().astype(dtype)
    image = noisy(scene()).astype(dtype)
    image[image == marker] += 1
    image[10:14, 20:30] = marker
    image[::9, ::7] = marker
    return clean, image, (image != marker) & ~np.isnan(image.astype(float))


@pytest.mark.parametrize(
    ("dtype", "text"),
    [
        ("float32", "-9999"),
        ("float32", "-3.40282347e+38"),
        ("float64", "-1.7976931348623157e+308"),
        ("float32", "nan"),
        ("int16", "-32768"),
        ("uint8", "0"),
        ("uint16", "65535"),
        ("uint8", "-9999"),
    ],
)
def test_nodata_of_a_geotiff_is_kept(tmp_path, capsys, dtype, text):
    marker = np.clip(float(text), *_limits(dtype)).astype(dtype)
    clean, image, known = with_holes(dtype, marker)
    if text == "-9999" and dtype == "uint8":  # a number that no pixel can have
        known[:] = True
    tags = [(42113, "s", 0, text, True)]
    tifffile.imwrite(tmp_path / "in.tif", image, extratags=tags)
    assert call(tmp_path / "in.tif", tmp_path / "out.tif") == 0
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        result = file.pages[0].asarray()
        assert file.pages[0].tags[42113].value == text
    assert result[~known].tobytes() == image[~known].tobytes()
    if not known.all():
        assert error(result[known], clean[known]) < 0.5 * error(image[known], clean[known])
        assert (result[known] != marker).all()
        assert f"{(~known).sum()} missing values kept" in capsys.readouterr().out


def _limits(dtype):
    limits = np.iinfo(dtype) if np.issubdtype(dtype, np.integer) else np.finfo(dtype)
    return float(limits.min), float(limits.max)


def test_nodata_that_is_no_number_or_differs(tmp_path):
    image = noisy(scene())
    tifffile.imwrite(tmp_path / "a.tif", image, extratags=[(42113, "s", 0, "none", True)])
    with pytest.raises(InputError, match=r"a\.tif has the nodata value 'none'"):
        call(tmp_path / "a.tif", tmp_path / "out.tif")
    with tifffile.TiffWriter(tmp_path / "b.tif") as writer:
        for text in ("0", "255"):
            writer.write(image, metadata=None, extratags=[(42113, "s", 0, text, True)])
    with pytest.raises(InputError, match=r"b\.tif has pages with different nodata"):
        call(tmp_path / "b.tif", tmp_path / "out.tif")


def test_nodata_as_a_flag(tmp_path, capsys):
    clean, image, known = with_holes(np.float64, -9999.0)
    np.save(tmp_path / "in.npy", image)
    np.save(tmp_path / "clean.npy", np.where(known, clean, np.nan))
    flags = {"nodata": -9999.0, "clean": str(tmp_path / "clean.npy")}
    picture = str(tmp_path / "picture.png")
    assert call(tmp_path / "in.npy", tmp_path / "out.npy", compare=picture, **flags) == 0
    result = np.load(tmp_path / "out.npy")
    np.testing.assert_array_equal(result[~known], -9999)
    expected = denoise_wavelet(image, mask=known, cycle_spins="all")
    np.testing.assert_allclose(result, expected, atol=1e-10)
    line = capsys.readouterr().out
    peak = np.nanmax(clean) - clean.min()
    for values in (image, result):
        psnr = 10 * np.log10(peak**2 / error(values[known], clean[known]))
        assert f"{psnr:.2f} dB" in line
    image[3, 4] = np.nan
    np.save(tmp_path / "nan.npy", image)
    assert call(tmp_path / "nan.npy", tmp_path / "nan-out.npy", nodata=-9999.0) == 0
    assert np.isnan(np.load(tmp_path / "nan-out.npy")).sum() == 1


def test_infinite_numbers_are_refused_unless_they_are_nodata(tmp_path):
    image = noisy(scene()).astype(np.float32)
    image[4:9, 7] = np.inf
    np.save(tmp_path / "in.npy", image)
    with pytest.raises(InputError, match=r"holds inf at \(4, 7\), and 5 such values"):
        call(tmp_path / "in.npy", tmp_path / "out.npy")
    assert call(tmp_path / "in.npy", tmp_path / "out.npy", nodata=np.inf) == 0
    assert np.isinf(np.load(tmp_path / "out.npy")).sum() == 5


def test_photon_noise_of_a_file(tmp_path):
    counts = np.random.default_rng(0).poisson(scene() / 10.0).astype(np.uint16)
    tifffile.imwrite(tmp_path / "in.tif", counts)
    expected = denoise_wavelet(counts, noise=PoissonNoise(1.0), cycle_spins="all")
    flags = {"noise": "poisson", "gain": 1.0}
    assert call(tmp_path / "in.tif", tmp_path / "out.tif", **flags) == 0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), expected)
    for number, noise in enumerate(("poisson", "poisson-gaussian", "rician", "multiplicative")):
        assert call(tmp_path / "in.tif", tmp_path / f"{number}.tif", noise=noise) == 0


def test_negative_counts_are_refused(tmp_path):
    np.save(tmp_path / "in.npy", noisy(scene()).astype(float) - 100)
    with pytest.raises(InputError, match="Poisson data cannot be below offset=0"):
        call(tmp_path / "in.npy", tmp_path / "out.npy", noise="poisson")
    assert not (tmp_path / "out.npy").exists()


def test_a_clean_file_is_said_to_be_unchanged(tmp_path, capsys):
    tifffile.imwrite(tmp_path / "in.tif", scene())
    assert call(tmp_path / "in.tif", tmp_path / "out.tif") == 0
    assert "no noise found, unchanged" in capsys.readouterr().out
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), scene())
