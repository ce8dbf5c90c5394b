"""``sparsact denoise``: as a user runs it, and its work on files called directly."""

import csv
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import png
import pytest
import soundfile
import tifffile
import torch
from PIL import Image, PngImagePlugin

from sparsact._errors import InputError
from sparsact.cli.denoise import denoise
from sparsact.denoise.job import DenoiseConfig

COMMAND = [sys.executable, "-m", "sparsact.cli", "denoise"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def run(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *flags],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def scene(planes: int = 0, top: int = 255, size: tuple[int, int] = (48, 56)) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]]
    grey = np.where((x > 20) ^ (y > 24), 0.75, 0.25)
    image = grey if planes == 0 else np.stack([grey * (1 - 0.1 * i) for i in range(planes)], -1)
    return np.rint(top * image).astype(np.uint8 if top == 255 else np.uint16)


def noisy(image: np.ndarray, share: float = 0.06) -> np.ndarray:
    top = np.iinfo(image.dtype).max
    noise = share * top * np.random.default_rng(0).standard_normal(image.shape)
    return np.clip(np.rint(image + noise), 0, top).astype(image.dtype)


def error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.square(a.astype(float) - b.astype(float)).mean())


def call(source: Path, target: Path, **flags: object) -> int:
    return denoise(DenoiseConfig(str(source), str(target), **flags))


def write_png(path: Path, image: np.ndarray, extra: bytes = b"") -> None:
    """By hand where Pillow cannot: 16 bits and colours, with an extra chunk before the pixels."""
    planes = image.shape[2] if image.ndim == 3 else 1
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[planes]
    depth = 8 * image.dtype.itemsize
    rows = b"".join(b"\0" + row.astype(f">u{depth // 8}").tobytes() for row in image)
    header = struct.pack(">IIBBBBB", image.shape[1], image.shape[0], depth, kind, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"tEXt", extra), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
            for name, body in chunks
        )
    )


def read_png(path: Path) -> tuple[np.ndarray, dict]:
    width, height, rows, info = png.Reader(bytes=path.read_bytes()).asDirect()
    dtype = np.uint16 if info["bitdepth"] == 16 else np.uint8
    pixels = np.vstack([np.asarray(row, dtype) for row in rows])
    return pixels.reshape(height, width, info["planes"]), info


@pytest.mark.parametrize("top", [255, 65535])
@pytest.mark.parametrize("planes", [1, 2, 3, 4])
def test_png(tmp_path, planes, top):
    clean = scene(planes, top)
    image = noisy(clean)
    alpha = planes in (2, 4)
    if alpha:
        image[..., -1] = np.arange(image[..., -1].size).reshape(image.shape[:2]) % top
    write_png(tmp_path / "in.png", image, b"Title\0a scene")
    assert call(tmp_path / "in.png", tmp_path / "out.png") == 0
    result, info = read_png(tmp_path / "out.png")
    assert info["planes"] == planes
    assert info["bitdepth"] == (8 if top == 255 else 16)
    colours = slice(None, planes - alpha)
    before = error(image[..., colours], clean[..., colours])
    assert error(result[..., colours], clean[..., colours]) < 0.5 * before
    if alpha:
        np.testing.assert_array_equal(result[..., -1], image[..., -1])
    with Image.open(tmp_path / "out.png") as written:
        assert written.text == {"Title": "a scene"}


def test_png_metadata(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_itxt("Author", "Zoë")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noisy(scene(3))).save(
        tmp_path / "in.png", pnginfo=info, dpi=(300, 300), exif=exif, icc_profile=b"profile"
    )
    assert call(tmp_path / "in.png", tmp_path / "out.png", ycbcr=True) == 0
    with Image.open(tmp_path / "in.png") as before, Image.open(tmp_path / "out.png") as after:
        before.load()
        after.load()
        assert after.info == before.info
        assert after.getexif() == before.getexif()


@pytest.mark.parametrize("depth", [4, 8, 16])
def test_png_background_stays_where_the_pixels_keep_their_coding(tmp_path, depth):
    image = scene() >> (8 - depth) if depth < 8 else scene(top=2**depth - 1)
    with (tmp_path / "in.png").open("wb") as file:
        height, width = image.shape
        writer = png.Writer(width, height, greyscale=True, bitdepth=depth, background=9)
        writer.write(file, image)
    assert call(tmp_path / "in.png", tmp_path / "out.png") == 0
    assert read_png(tmp_path / "out.png")[1].get("background") == (None if depth == 4 else (9,))


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_several_images_in_one(tmp_path, kind):
    images = [Image.fromarray(noisy(scene(3), share)) for share in (0.1, 0.2)]
    images[0].save(
        tmp_path / f"in.{kind}",
        format={"png": "PNG", "jpg": "MPO"}[kind],
        save_all=True,
        append_images=images[1:],
    )
    with pytest.raises(InputError, match="holds several images; denoise them one by one"):
        call(tmp_path / f"in.{kind}", tmp_path / f"out.{kind}")


def test_palette_with_transparency(tmp_path):
    palette = Image.fromarray(noisy(scene(3))).quantize(64)
    palette.save(tmp_path / "in.png", transparency=0)
    assert call(tmp_path / "in.png", tmp_path / "out.png") == 0
    with Image.open(tmp_path / "in.png") as before, Image.open(tmp_path / "out.png") as after:
        assert after.mode == "RGBA"
        np.testing.assert_array_equal(
            np.asarray(before.convert("RGBA"))[..., 3], np.asarray(after)[..., 3]
        )


@pytest.mark.parametrize("planes", [0, 3])
def test_jpeg(tmp_path, planes):
    clean = scene(planes)
    exif = Image.Exif()
    exif[0x010E] = "a scene"
    Image.fromarray(noisy(clean)).save(
        tmp_path / "in.jpg", quality=83, subsampling=0, exif=exif, dpi=(72, 72), comment=b"hi"
    )
    assert call(tmp_path / "in.jpg", tmp_path / "out.JPEG") == 0
    with Image.open(tmp_path / "in.jpg") as before, Image.open(tmp_path / "out.JPEG") as after:
        assert after.mode == before.mode
        assert after.quantization == before.quantization
        assert after.getexif()[0x010E] == "a scene"
        assert after.info["dpi"] == (72, 72)
        assert after.info["comment"] == b"hi"
        assert error(np.asarray(after), clean) < 0.5 * error(np.asarray(before), clean)


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
    """Which tifffile drops or mends, with a line in its log."""
    tifffile.imwrite(tmp_path / "in.tif", noisy(scene()), software="a scanner", rowsperstrip=9)
    with tifffile.TiffFile(tmp_path / "in.tif") as file:
        place = file.pages[0].tags[tag].offset + (8 if tag == 305 else 4)
    raw = bytearray((tmp_path / "in.tif").read_bytes())
    raw[place : place + 4] = (2**31 if tag == 305 else 7).to_bytes(4, "little")
    (tmp_path / "in.tif").write_bytes(raw)
    with pytest.raises(InputError, match=r"in\.tif is not a readable TIFF: <.*(offset|count)"):
        call(tmp_path / "in.tif", tmp_path / "out.tif")
    assert not caplog.records


def test_tiff_with_smaller_images(tmp_path, caplog):
    with tifffile.TiffWriter(tmp_path / "in.tif") as writer:
        writer.write(noisy(scene()), subifds=1, metadata=None)
        writer.write(noisy(scene())[::2, ::2], subfiletype=1, metadata=None)
    with pytest.raises(InputError, match=r"in\.tif holds a pyramid of images"):
        call(tmp_path / "in.tif", tmp_path / "out.tif")
    assert not caplog.records


def test_tiff_of_no_colours_or_images(tmp_path):
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


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("tracks", [1, 2])
def test_wav(tmp_path, tracks, subtype):
    time = np.arange(4000) / 8000
    clean = np.stack([0.5 * np.sin(2 * np.pi * 220 * (i + 1) * time) for i in range(tracks)], -1)
    sound = clean + 0.05 * np.random.default_rng(0).standard_normal(clean.shape)
    with soundfile.SoundFile(tmp_path / "in.wav", "w", 8000, tracks, subtype) as file:
        file.title = "a tone"
        file.write(sound)
    assert call(tmp_path / "in.wav", tmp_path / "out.wav", wavelet="sym8", levels=4) == 0
    with soundfile.SoundFile(tmp_path / "out.wav") as file:
        assert (file.samplerate, file.channels, file.subtype) == (8000, tracks, subtype)
        assert file.title == "a tone"
        result = file.read(always_2d=True)
    assert error(result, clean) < 0.5 * error(sound, clean)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float16, np.float32, np.float64])
def test_npy(tmp_path, dtype):
    clean = np.stack([scene() // 2] * 2)
    image = (clean + 8 * np.random.default_rng(0).standard_normal(clean.shape)).astype(dtype)
    np.save(tmp_path / "in.npy", image)
    assert call(tmp_path / "in.npy", tmp_path / "out.npy") == 0
    result = np.load(tmp_path / "out.npy")
    assert result.dtype == dtype
    assert error(result, clean) < 0.5 * error(image, clean)


def test_npy_of_colours_tracks_and_volumes(tmp_path):
    from sparsact.denoise import denoise_wavelet

    rng = np.random.default_rng(0)
    for name, shape, flags in [
        ("rgba", (40, 50, 4), {"channel_dim": -1}),
        ("first", (3, 40, 50), {"channel_dim": 0}),
        ("tracks", (300, 4), {"channel_dim": 1, "dims": 1}),
        ("batch", (5, 300), {"dims": 1}),
        ("volume", (16, 20, 24), {"dims": 3}),
    ]:
        values = rng.standard_normal(shape)
        np.save(tmp_path / f"{name}.npy", values)
        picture = str(tmp_path / f"{name}.png")
        source, target = tmp_path / f"{name}.npy", tmp_path / f"{name}-out.npy"
        assert call(source, target, levels=1, compare=picture, **flags) == 0
        wanted = denoise_wavelet(
            torch.from_numpy(values), levels=1, cycle_spins="all", **{"dims": 2, **flags}
        )
        np.testing.assert_allclose(np.load(target), wanted, atol=1e-12)


def test_npy_that_may_hold_colours_or_tracks(tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).standard_normal((40, 50, 4)))
    for flags, message in [
        ({}, "say so with --channel-dim -1"),
        ({"channel_dim": 3}, "--channel-dim 3 does not exist"),
        ({"dims": 0}, "dims=0 must lie between"),
        ({"dims": 3, "channel_dim": 2}, "dims=3 must lie between"),
    ]:
        with pytest.raises(InputError, match=message):
            call(tmp_path / "a.npy", tmp_path / "b.npy", **flags)
    assert run(tmp_path, "a.npy", "b.npy", "--channel-dim", "-1").returncode == 0


def test_csv(tmp_path):
    clean = np.repeat([0.0, 1.0, 0.5, 2.0], 64)
    signal = clean + 0.1 * np.random.default_rng(0).standard_normal(256)
    rows = [f'"{i}, s",{float(value)!r},x' for i, value in enumerate(signal)]
    (tmp_path / "in.csv").write_text("\n".join(["time,mV,note", *rows]) + "\n")
    assert call(tmp_path / "in.csv", tmp_path / "out.csv", column="mV", wavelet="haar") == 0
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0] == "time,mV,note"
    assert lines[1].startswith('"0, s",')
    result = np.array([float(line.split(",")[2]) for line in lines[1:]])
    assert error(result, clean) < 0.5 * error(signal, clean)
    with pytest.raises(InputError, match="choose a --column of time, mV, note"):
        call(tmp_path / "in.csv", tmp_path / "new.csv")
    with pytest.raises(InputError, match="did you mean 'note'"):
        call(tmp_path / "in.csv", tmp_path / "new.csv", column="nott")
    with pytest.raises(InputError, match="row 1 of the column is text: 'x'"):
        call(tmp_path / "in.csv", tmp_path / "new.csv", column="note")


@pytest.mark.parametrize("column", [None, "1", "2"])
@pytest.mark.parametrize("separator", [",", ";"])
def test_csv_without_a_header(tmp_path, column, separator):
    clean = np.repeat([0.0, 1.0, 0.5, 2.0], 64)
    signal = clean + 0.1 * np.random.default_rng(0).standard_normal(256)
    place = int(column or 1) - 1
    rows = [["7", "a, b"] if column else [] for _ in signal]
    for row, value in zip(rows, signal, strict=True):
        row.insert(place, repr(float(value)))
    with (tmp_path / "in.csv").open("w", newline="") as file:
        csv.writer(file, delimiter=separator).writerows(rows)
    assert call(tmp_path / "in.csv", tmp_path / "out.csv", column=column, wavelet="haar") == 0
    with (tmp_path / "out.csv").open(newline="") as file:
        results = list(csv.reader(file, delimiter=separator))
    assert len(results) == 256
    assert results[0][place] != rows[0][place]
    result = np.array([float(row.pop(place)) for row in results])
    assert all(row == (["7", "a, b"] if column else []) for row in results)
    assert error(result, clean) < 0.5 * error(signal, clean)


def test_csv_columns_by_number(tmp_path):
    (tmp_path / "in.csv").write_text("1,2\n" * 99)
    for column, message in [
        (None, r"choose a --column of 1 to 2 \(it has no header\)"),
        ("3", "no column '3'; it has 1 to 2"),
        ("0", "no column '0'; it has 1 to 2"),
        ("mV", "no column 'mV'; it has 1 to 2"),
    ]:
        with pytest.raises(InputError, match=message):
            call(tmp_path / "in.csv", tmp_path / "out.csv", column=column)
    (tmp_path / "named.csv").write_text("time;mV\n" + "1;2\n" * 99)
    with pytest.raises(InputError, match="no column '2'; it has time, mV"):
        call(tmp_path / "named.csv", tmp_path / "out.csv", column="2")
    (tmp_path / "blank.csv").write_text("\n\n")
    with pytest.raises(InputError, match=r"blank\.csv holds no numbers"):
        call(tmp_path / "blank.csv", tmp_path / "out.csv")


def test_a_folder_goes_on_after_a_bad_file(tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "clean" / "deep").mkdir(parents=True)
    for name in ("a.png", "deep/b.png"):
        Image.fromarray(scene()).save(tmp_path / "clean" / name)
        Image.fromarray(noisy(scene())).save(tmp_path / "in" / name)
    (tmp_path / "in" / "bad.png").write_bytes((tmp_path / "in" / "a.png").read_bytes()[:500])
    (tmp_path / "in" / "empty.tif").touch()
    (tmp_path / "in" / "notes.txt").write_text("not an image")
    flags = ["in", "in/out", "--clean", "clean", "--compare", "pictures"]
    done = run(tmp_path, *flags)
    assert done.returncode == 1
    errors = done.stderr.splitlines()
    assert errors[0].startswith("error: in/bad.png is not a readable PNG")
    assert errors[1] == "error: in/empty.tif is empty"
    assert errors[2] == "2 of 4 files failed"
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    assert [line.split(":")[0] for line in lines] == ["in/out/a.png", "in/out/deep/b.png"]
    assert all("dB, SSIM" in line for line in lines)
    for name in ("a.png", "deep/b.png"):
        with Image.open(tmp_path / "pictures" / f"{name}.png") as picture:
            assert picture.width > 1000
    again = run(tmp_path, *flags)
    assert again.returncode == 1
    assert again.stderr.count("exists already") == 2
    assert run(tmp_path, *flags, "--force").stderr.splitlines() == errors


def test_clean_shows_the_quality_that_scikit_image_measures(tmp_path):
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    clean, image = scene(3), noisy(scene(3))
    Image.fromarray(clean).save(tmp_path / "clean.png")
    Image.fromarray(image).save(tmp_path / "in.png")
    flags = ["--clean", "clean.png", "--compare", "picture.png"]
    done = run(tmp_path, "in.png", "out.png", *flags)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.strip()]
    psnr = peak_signal_noise_ratio(clean, image)
    ssim = structural_similarity(clean, image, channel_axis=-1)
    assert f"out.png: {psnr:.2f} dB, SSIM {ssim:.3f} → " in line
    assert (tmp_path / "picture.png").stat().st_size > 0


def test_clean_in_other_units(tmp_path):
    Image.fromarray(noisy(scene())).save(tmp_path / "in.png")
    write_png(tmp_path / "deep.png", scene(top=65535))
    np.save(tmp_path / "share.npy", scene() / 255)
    np.save(tmp_path / "same.npy", scene())
    for name, units in (("deep.png", "uint16 over a range of 65535"), ("share.npy", "float64")):
        message = f"holds {units}, the noisy file uint8 over a range of 255"
        with pytest.raises(InputError, match=message):
            call(tmp_path / "in.png", tmp_path / "out.png", clean=str(tmp_path / name))
    assert call(tmp_path / "in.png", tmp_path / "out.png", clean=str(tmp_path / "same.npy")) == 0


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    Image.fromarray(noisy(scene())).save(folder / "good.png")
    Image.fromarray(noisy(scene())[:20]).save(folder / "other.png")
    values = scene().astype(float)
    values[3, 5] = np.nan
    np.save(folder / "nan.npy", values)
    (folder / "text.png").write_text("not a png")
    (folder / "text.wav").write_text("not a wav")
    (folder / "text.tif").write_text("not a tiff")
    (folder / "text.jpg").write_text("not a jpeg")
    (folder / "text.npy").write_text("not an array")
    Image.fromarray(scene()[:3, :3]).save(folder / "tiny.png")
    np.save(folder / "words.npy", np.array(["a", "b"]))
    Image.fromarray(scene() > 99).save(folder / "one.png")
    (folder / "empty").mkdir()
    (folder / "old.png").write_bytes(b"precious")
    return folder


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("missing.png out.png", "no such file: missing.png"),
        ("text.png out.png", "text.png is not a readable PNG"),
        ("text.jpg out.jpg", "text.jpg is not a readable JPEG"),
        ("text.tif out.tif", "text.tif is not a readable TIFF"),
        ("text.wav out.wav", "text.wav is not a readable WAV"),
        ("text.npy out.npy", "text.npy is not a readable NPY"),
        ("words.npy out.npy", "expected an array of integers or floats"),
        ("nan.npy out.npy", "nan.npy holds nan at (3, 5)"),
        ("tiny.png out.png", "3×3 is smaller than the filter of db2"),
        ("one.png out.png", "1 bit per pixel"),
        ("empty out", "empty holds no"),
        ("good.png out.jpg", "out.jpg must end in .png"),
        ("good.png old.png", "old.png exists already; overwrite it with --force"),
        ("good.png good.png", "good.png exists already"),
        ("good.png text.wav/out.png", "cannot be written"),
        ("empty good.png", "must be one as well"),
        ("good.png out.png --wavelet db2x", "did you mean"),
        ("good.png out.png --threshold bays", "did you mean 'bayes'"),
        ("good.png out.png --threshold -1", "--threshold takes"),
        ("good.png out.png --shrink sotf", "did you mean 'soft'"),
        ("good.png out.png --sigma x", "--sigma takes"),
        ("good.png out.png --sigma 0", "--sigma takes"),
        ("good.png out.png --sigma nan", "--sigma takes"),
        ("good.png out.png --spins many", "--spins takes"),
        ("good.png out.png --levels 9", "levels=9 must lie between 1 and 4"),
        ("good.png out.png --column mV", "--column is for CSV files, and good.png is none"),
        ("good.png out.png --dims 1", "--dims is for NPY files, and good.png is none"),
        ("good.png out.png --channel_dim 1", "--channel-dim is for NPY files"),
        ("good.png out.png --compare out.jpg", "out.jpg must end in .png"),
        ("good.png out.png --clean other.png", "has the shape"),
        ("good.png out.png --clean missing.png", "missing.png cannot be read"),
    ],
)
def test_a_mistake_is_one_line(inputs, monkeypatch, flags, message):
    monkeypatch.chdir(inputs)
    source, target, *rest = flags.split()
    options = {rest[i].removeprefix("--"): rest[i + 1] for i in range(0, len(rest), 2)}
    for name in {"levels", "dims", "channel_dim"} & options.keys():
        options[name] = int(options[name])
    before = sorted(path.name for path in inputs.rglob("*"))
    with pytest.raises(InputError) as caught:
        call(Path(source), Path(target), **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in inputs.rglob("*")) == before
    assert (inputs / "old.png").read_bytes() == b"precious"


def test_a_folder_leaves_out_originals_and_hidden_files(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b/a.png", "clean/a.png", "clean/b/a.png", ".a.9.tmp.png", ".git/a.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(scene() if "clean" in name else noisy(scene())).save(path)
    assert call(Path(), Path("out"), clean="clean", compare="pictures") == 0
    assert call(Path(), Path("out"), clean="clean", compare="pictures", force=True) == 0
    found = sorted(str(path.relative_to("out")) for path in Path("out").rglob("*.*"))
    assert found == ["a.png", "b/a.png"]
    assert len([line for line in capsys.readouterr().out.splitlines() if "dB" in line]) == 4
    assert call(Path("b"), Path("b"), clean=".", force=True) == 0  # in its own place


@pytest.mark.parametrize("picture", ["out.png", "in.png", "clean.png", "deep/../out.png"])
def test_a_picture_does_not_replace_what_is_needed(tmp_path, picture):
    (tmp_path / "deep").mkdir()
    for name in ("in.png", "clean.png"):
        Image.fromarray(noisy(scene())).save(tmp_path / name)
    before = {path: path.read_bytes() for path in tmp_path.glob("*.png")}
    flags = {"clean": str(tmp_path / "clean.png"), "force": True}
    with pytest.raises(InputError, match="would be written over another file of this run"):
        call(tmp_path / "in.png", tmp_path / "out.png", compare=str(tmp_path / picture), **flags)
    with pytest.raises(InputError, match="would be written over another file of this run"):
        call(tmp_path / "in.png", tmp_path / "clean.png", **flags)
    assert {path: path.read_bytes() for path in tmp_path.glob("*.png")} == before
    assert call(tmp_path / "in.png", tmp_path / "in.png", **flags) == 0


def test_a_picture_into_a_folder(tmp_path):
    Image.fromarray(noisy(scene())).save(tmp_path / "in.png")
    (tmp_path / "pictures").mkdir()
    picture = str(tmp_path / "pictures")
    assert call(tmp_path / "in.png", tmp_path / "out.png", compare=picture, force=True) == 0
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["in.png.png"]


def test_a_damaged_file_does_not_stop_a_folder(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in" / "stream.tif", noisy(scene()), compression="zlib")
    write_png(tmp_path / "in" / "colour.png", noisy(scene(top=65535)))
    for name, place in (("stream.tif", slice(400, 440)), ("colour.png", slice(25, 26))):
        raw = bytearray((tmp_path / "in" / name).read_bytes())
        raw[place] = bytes([7] * len(raw[place]))
        (tmp_path / "in" / name).write_bytes(raw)
    (tmp_path / "in" / "bracket.npy").write_bytes(b"\x93NUMPY\x01\x00\x04\x00({[\n")
    Image.fromarray(noisy(scene())).save(tmp_path / "in" / "whole.png")
    assert call(tmp_path / "in", tmp_path / "out") == 1
    done = capsys.readouterr()
    errors = done.err.splitlines()
    for line, words in zip(
        errors,
        ("bracket.npy is not a readable NPY", "colour.png is", "stream.tif is"),
        strict=False,
    ):
        assert words in line
    assert errors[3] == "3 of 4 files failed"
    assert (tmp_path / "out" / "whole.png").exists()


@pytest.mark.parametrize("error", [struct.error, TypeError, MemoryError, NotImplementedError])
def test_whatever_a_reader_raises_is_one_line(tmp_path, monkeypatch, error):
    def stumble(path):
        raise error

    tifffile.imwrite(tmp_path / "in.tif", scene())
    monkeypatch.setattr(tifffile, "TiffFile", stumble)
    with pytest.raises(InputError, match=rf"in\.tif is not a readable TIFF: {error.__name__}"):
        call(tmp_path / "in.tif", tmp_path / "out.tif")


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    def forbid(path):
        raise PermissionError(13, "Permission denied")

    Image.fromarray(noisy(scene())).save(tmp_path / "in.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match=r"folder\.png cannot be read: Is a directory"):
        call(tmp_path / "in.png", tmp_path / "out.png", clean=str(tmp_path / "folder.png"))
    monkeypatch.setattr(Path, "read_bytes", forbid)
    with pytest.raises(InputError, match=r"in\.png cannot be read: Permission denied"):
        call(tmp_path / "in.png", tmp_path / "out.png")


def test_a_mistake_has_status_2(inputs):
    done = run(inputs, "good.png", "out.png", "--wavelet", "[/]db2")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: there is no discrete wavelet '[/]db2'")


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    Image.fromarray(noisy(scene())).save(tmp_path / "in.png")
    (tmp_path / "out.png").write_bytes(b"precious")

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"out\.png cannot be written: No space left"):
        call(tmp_path / "in.png", tmp_path / "out.png", force=True)
    assert (tmp_path / "out.png").read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.png", "out.png"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyError("b")])
def test_a_failed_picture_leaves_no_result(tmp_path, monkeypatch, error):
    def fail(path, *values, **options):
        path.write_bytes(b"half of it")
        raise error

    Image.fromarray(noisy(scene())).save(tmp_path / "in.png")
    monkeypatch.setattr("sparsact.denoise.job.save_comparison", fail)
    with pytest.raises(InputError, match=r"picture\.png cannot be written: (No space left|'b')"):
        call(tmp_path / "in.png", tmp_path / "out.png", compare=str(tmp_path / "picture.png"))
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]


def test_interrupt_leaves_whole_files(tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(200):
        Image.fromarray(noisy(scene(3, size=(200, 200)))).save(tmp_path / "in" / f"{number}.png")
    process = subprocess.Popen(
        [*COMMAND, "in", "out"], cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.DEVNULL
    )
    until = time.monotonic() + 60
    while not list((tmp_path / "out").glob("*.png")) and time.monotonic() < until:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    written = list((tmp_path / "out").iterdir())
    assert 1 <= len(written) < 200
    for path in written:
        with Image.open(path) as image:
            image.load()


def test_help_names_every_flag():
    done = run(Path(), "--help")
    assert done.returncode == 0
    for flag in ("--sigma", "--compare", "--clean", "--force", "--column", "--spins"):
        assert flag in done.stdout
