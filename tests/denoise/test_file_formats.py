"""Each file format: the numbers are denoised, everything else is kept, bad files are refused."""

import csv
from pathlib import Path

import numpy as np
import png
import pytest
import soundfile
import torch
from PIL import Image, PngImagePlugin

from noisy_files import call, error, noisy, scene, write_png
from sparsact._common.errors import InputError


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
def test_a_png_background_is_kept_if_the_pixels_keep_their_coding(tmp_path, depth):
    image = scene() >> (8 - depth) if depth < 8 else scene(top=2**depth - 1)
    with (tmp_path / "in.png").open("wb") as file:
        height, width = image.shape
        writer = png.Writer(width, height, greyscale=True, bitdepth=depth, background=9)
        writer.write(file, image)
    assert call(tmp_path / "in.png", tmp_path / "out.png") == 0
    assert read_png(tmp_path / "out.png")[1].get("background") == (None if depth == 4 else (9,))


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
        expected = denoise_wavelet(
            torch.from_numpy(values), levels=1, cycle_spins="all", **{"dims": 2, **flags}
        )
        np.testing.assert_allclose(np.load(target), expected, atol=1e-12)


def test_npy_that_may_hold_colours_or_tracks(tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).standard_normal((40, 50, 4)))
    for flags, message in [
        ({}, "set channel_dim=-1"),
        ({"channel_dim": 3}, "channel_dim=3 does not exist"),
        ({"dims": 0}, "dims=0 must be between"),
        ({"dims": 3, "channel_dim": 2}, "dims=3 must be between"),
    ]:
        with pytest.raises(InputError, match=message):
            call(tmp_path / "a.npy", tmp_path / "b.npy", **flags)


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
    with pytest.raises(InputError, match="choose a column= from time, mV, note"):
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
        (None, r"choose a column= from 1 to 2 \(it has no header\)"),
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
