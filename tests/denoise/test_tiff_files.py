"""TIFF: pages, layouts and tags."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from noisy_files import call, error, noisy, scene
from sparsact._common.errors import InputError


@pytest.mark.parametrize("top", [255, 65535])
@pytest.mark.parametrize("layout", ["grey", "rgb", "rgba", "planar"])
def test_tiff(tmp_path, layout, top):
    planes = {"grey": 0, "rgb": 3, "rgba": 4, "planar": 3}[layout]
    clean = scene(planes, top)
    image = noisy(clean)
    options: dict = {"photometric": "rgb" if planes else "minisblack", "compression": "zlib"}
    if layout == "rgba":
        options["extrasamples"] = ["unassalpha"]
    if layout == "planar":
        options["planarconfig"] = "separate"
        clean, image = clean.transpose(2, 0, 1), image.transpose(2, 0, 1)
    tifffile.imwrite(
        tmp_path / "in.tif", image, resolution=(300, 300), description="a scan", **options
    )
    assert call(tmp_path / "in.tif", tmp_path / "out.tiff") == 0
    pages = []
    for name in ("in.tif", "out.tiff"):
        with tifffile.TiffFile(tmp_path / name) as file:
            page = file.pages[0]
            pages.append(
                [
                    getattr(page, name)
                    for name in ("shape", "dtype", "photometric", "planarconfig", "compression")
                ]
                + [page.extrasamples, page.resolution, page.description]
            )
            pixels = page.asarray()
    assert pages[0] == pages[1]
    if layout == "rgba":
        np.testing.assert_array_equal(pixels[..., 3], image[..., 3])
        pixels, image, clean = pixels[..., :3], image[..., :3], clean[..., :3]
    assert error(pixels, clean) < 0.5 * error(image, clean)


@pytest.mark.parametrize("compression", ["lzw", "zlib", "packbits", "zstd"])
@pytest.mark.parametrize("layout", [{"tile": (32, 16)}, {"rowsperstrip": 7}], ids=["tiles", "rows"])
def test_tiff_layout(tmp_path, compression, layout):
    image = noisy(scene())
    predictor = compression != "packbits"
    tifffile.imwrite(
        tmp_path / "in.tif", image, compression=compression, predictor=predictor, **layout
    )
    assert call(tmp_path / "in.tif", tmp_path / "out.tif") == 0
    pages = []
    for name in ("in.tif", "out.tif"):
        with tifffile.TiffFile(tmp_path / name) as file:
            tags = file.pages[0].tags
            pages.append([tags[code].value for code in (259, 317, 322, 323, 278) if code in tags])
            pixels = file.pages[0].asarray()
    assert pages[0] == pages[1]
    assert error(pixels, scene()) < 0.5 * error(image, scene())


@pytest.mark.parametrize("tag", [305, 279])
def test_tiff_with_a_broken_tag(tmp_path, tag, caplog):
    """tifffile drops or repairs such tags and logs an error."""
    tifffile.imwrite(tmp_path / "in.tif", noisy(scene()), software="a scanner", rowsperstrip=9)
    with tifffile.TiffFile(tmp_path / "in.tif") as file:
        place = file.pages[0].tags[tag].offset + (8 if tag == 305 else 4)
    raw = bytearray((tmp_path / "in.tif").read_bytes())
    raw[place : place + 4] = (2**31 if tag == 305 else 7).to_bytes(4, "little")
    (tmp_path / "in.tif").write_bytes(raw)
    with pytest.raises(InputError, match=r"in\.tif is not a readable TIFF: <.*(offset|count)"):
        call(tmp_path / "in.tif", tmp_path / "out.tif")
    assert not caplog.records


def test_a_tiff_pyramid_is_refused(tmp_path, caplog):
    with tifffile.TiffWriter(tmp_path / "in.tif") as writer:
        writer.write(noisy(scene()), subifds=1, metadata=None)
        writer.write(noisy(scene())[::2, ::2], subfiletype=1, metadata=None)
    with pytest.raises(InputError, match=r"in\.tif holds a pyramid of images"):
        call(tmp_path / "in.tif", tmp_path / "out.tif")
    assert not caplog.records


def test_tiffs_without_colours_or_images_are_refused(tmp_path):
    image = noisy(scene(3))
    tifffile.imwrite(tmp_path / "lab.tif", image, photometric="cielab")
    tifffile.imwrite(tmp_path / "jpeg.tif", image, photometric="ycbcr", compression="jpeg")
    tifffile.imwrite(tmp_path / "volume.tif", np.stack([image[..., 0]] * 16), volumetric=True)
    for name, message in (
        ("lab", "is in CIELab"),
        ("jpeg", "is in YCbCr"),
        ("volume", r"of shape \(16, 48, 56"),
    ):
        with pytest.raises(InputError, match=message):
            call(tmp_path / f"{name}.tif", tmp_path / "out.tif")


def test_tiff_pages_of_floats(tmp_path):
    clean = [scene() / np.float32(255), 2 * scene() / np.float32(255)]
    rng = np.random.default_rng(0)
    images = [page + rng.normal(0, 0.1, page.shape).astype(np.float32) for page in clean]
    with tifffile.TiffWriter(tmp_path / "in.tif") as writer:
        for page in images:
            writer.write(page, photometric="minisblack", metadata=None)
    assert call(tmp_path / "in.tif", tmp_path / "out.tif") == 0
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        results = [page.asarray() for page in file.pages]
    assert len(results) == 2
    for result, image, original in zip(results, images, clean, strict=True):
        assert result.dtype == np.float32
        assert error(result, original) < 0.5 * error(image, original)


@pytest.mark.parametrize("text", ["Zoë".encode(), "Zoë".encode("latin1"), b"Zo", b"one\0two"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_text_keeps_its_bytes(tmp_path, text, order):
    tags = [(270, 2, None, text + b"\0", True), (315, 2, None, b"by " + text + b"\0", True)]
    tifffile.imwrite(
        tmp_path / "in.tif", noisy(scene()), byteorder=order, metadata=None, extratags=tags
    )
    assert call(tmp_path / "in.tif", tmp_path / "out.tif") == 0
    with Image.open(tmp_path / "in.tif") as before, Image.open(tmp_path / "out.tif") as after:
        for code in (270, 315):
            assert after.tag_v2[code] == before.tag_v2[code]
    raw = (tmp_path / "out.tif").read_bytes()
    assert b"by " + text + b"\0" in raw
