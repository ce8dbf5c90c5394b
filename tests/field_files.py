"""For each format: a function that writes a noisy file, and one that reads all of it back."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tifffile
from PIL import Image

from noisy_files import noisy, scene

Read = Callable[[Path], tuple[np.ndarray, Any]]
CLEAN = scene().astype(float)
NOISY = CLEAN + 8 * np.random.default_rng(0).standard_normal(CLEAN.shape)
TIME = np.arange(4000) / 8000
TONE = 0.5 * np.sin(2 * np.pi * 220 * TIME)
HISS = TONE + 0.05 * np.random.default_rng(0).standard_normal(TONE.shape)
STACK = np.stack([noisy(scene(), share) for share in (0.05, 0.06, 0.07)])


def fits(path: Path) -> Read:
    module = pytest.importorskip("astropy.io.fits")
    stored = np.rint((NOISY - 100) / 0.01).astype(np.int16)
    stored[5, 7] = -32768
    sky = module.PrimaryHDU()
    image = module.ImageHDU(stored, name="SCI")
    for key, value in {"BSCALE": 0.01, "BZERO": 100.0, "BLANK": -32768, "BUNIT": "adu"}.items():
        image.header[key] = value
    flags = module.ImageHDU(np.arange(2688, dtype=np.int32).reshape(48, 56), name="DQ")
    rows = module.BinTableHDU.from_columns([module.Column("x", "E", array=np.arange(5.0))])
    units = module.HDUList([sky, image, flags, rows])
    units.writeto(path, checksum=True)
    with module.open(path, "update", do_not_scale_image_data=True) as file:  # raw integers
        file[1].data[...] = stored
        file[1].header["BSCALE"], file[1].header["BZERO"] = 0.01, 100.0

    def read(path: Path) -> tuple[np.ndarray, Any]:
        with module.open(path, memmap=False) as file:
            assert np.isnan(file[1].data[5, 7])
            pixels = np.nan_to_num(file[1].data, nan=CLEAN[5, 7])
        with module.open(path, do_not_scale_image_data=True, checksum=True, memmap=False) as file:
            heads = [{**unit.header} for unit in file]
            for head in heads:
                head.pop("CHECKSUM", None)
                head.pop("DATASUM", None)
            return pixels, (heads, file[2].data.tobytes(), file[3].data.tobytes())

    return read


def nifti(path: Path) -> Read:
    module = pytest.importorskip("nibabel")
    image = module.Nifti1Image(np.stack([NOISY.T] * 3, -1), np.diag([2.0, 2, 3, 1]))
    image.set_data_dtype(np.int16)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"a scan"
    image.header.extensions.append(module.nifti1.Nifti1Extension(6, b"a comment"))
    module.save(image, path)

    def read(path: Path) -> tuple[np.ndarray, Any]:
        image = module.load(path)
        header = image.header
        return np.asarray(image.dataobj)[..., 1].T, (header.binaryblock, header.extensions)

    return read


def dicom(path: Path) -> Read:
    pydicom = pytest.importorskip("pydicom")
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = pydicom.uid.CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3"
    data.PatientName, data.ImageType = "Doe^Jane", ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.Rows, data.Columns, data.SamplesPerPixel = 48, 56, 1
    data.PhotometricInterpretation, data.PixelRepresentation = "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.RescaleSlope, data.RescaleIntercept, data.PixelSpacing = 0.5, -100, [0.7, 0.7]
    data.PixelData = np.rint((NOISY + 100) / 0.5).astype("<u2").tobytes()
    data.save_as(path, enforce_file_format=True)

    def read(path: Path) -> tuple[np.ndarray, Any]:
        data = pydicom.dcmread(path)
        pixels = data.pixel_array * float(data.RescaleSlope) + float(data.RescaleIntercept)
        assert data.SOPInstanceUID == data.file_meta.MediaStorageSOPInstanceUID
        kept = [e for e in data if e.keyword not in ("PixelData", "SOPInstanceUID", "ImageType")]
        return pixels, (kept, list(data.ImageType)[1:])

    return read


def stack(path: Path, **options: Any) -> Read:
    tifffile.imwrite(path, STACK, photometric="minisblack", resolution=(5, 5), **options)

    def read(path: Path) -> tuple[np.ndarray, Any]:
        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            tags = [(t.code, t.value) for t in file.pages[0].tags.values() if t.code not in PLACES]
            return series.asarray()[1], (series.axes, series.shape, tags, file.byteorder)

    return read


PLACES = (273, 279)  # where the pixels are


def imagej(path: Path) -> Read:
    read = stack(path, imagej=True, metadata={"spacing": 2.0, "unit": "um", "axes": "ZYX"})
    with tifffile.TiffFile(path) as file:
        first, order = file.pages[0].offset, file.byteorder
    raw = bytearray(path.read_bytes())
    (entries,) = struct.unpack_from(f"{order}H", raw, first)
    struct.pack_into(f"{order}I", raw, first + 2 + 12 * entries, 0)  # no second directory
    path.write_bytes(raw)
    return read


def ome(path: Path) -> Read:
    return stack(path, ome=True, metadata={"axes": "TYX", "PhysicalSizeX": 0.2})


def single(path: Path) -> Read:
    return stack(path, truncate=True)


def sound(path: Path, **coding: Any) -> Read:
    with soundfile.SoundFile(path, "w", 8000, 1, **coding) as file:
        file.title, file.artist = "a tone", "Zoë"
        file.write(HISS)

    def read(path: Path) -> tuple[np.ndarray, Any]:
        with soundfile.SoundFile(path) as file:
            head = file.samplerate, file.format, file.subtype, file.title, file.artist
            return file.read(), head

    return read


def rf64(path: Path) -> Read:
    return sound(path, format="RF64", subtype="PCM_16")


def pipe(path: Path) -> Read:
    """A WAV of unknown size, as programs write it to a pipe."""
    read = sound(path, subtype="PCM_16")
    raw = bytearray(path.read_bytes())
    place = raw.index(b"data") + 4
    raw[4:8] = raw[place : place + 4] = b"\xff" * 4
    tail = raw.index(b"LIST")  # the title; it would count as sound
    path.write_bytes(raw[:tail] if tail > place else raw)

    def samples(path: Path) -> tuple[np.ndarray, Any]:
        raw = path.read_bytes()
        return read(path)[0], (raw[: raw.index(b"data") + 8], len(raw))

    return samples


def pillow(path: Path, keys: tuple[str, ...] = (), **options: Any) -> Read:
    Image.fromarray(noisy(scene())).convert(options.pop("mode", "L")).save(path, **options)

    def read(path: Path) -> tuple[np.ndarray, Any]:
        with Image.open(path) as image:
            image.load()
            return np.asarray(image.convert("L")), (image.mode, [image.info[key] for key in keys])

    return read


def bmp(path: Path) -> Read:
    return pillow(path, ("dpi",), dpi=(72, 72))


def webp(path: Path) -> Read:
    exif = Image.Exif()
    exif[0x010E] = "a scene"
    keys = ("exif", "icc_profile", "xmp")
    return pillow(path, keys, mode="RGB", lossless=True, exif=exif, icc_profile=b"p", xmp=b"x")


def tga(path: Path) -> Read:
    return pillow(path, ("compression",), compression="tga_rle")


def animation(path: Path, **options: Any) -> Read:
    first, *others = [Image.fromarray(page).convert("RGB") for page in STACK]
    durations = [50, 100, 200]
    first.save(path, save_all=True, append_images=others, duration=durations, loop=3, **options)

    def read(path: Path) -> tuple[np.ndarray, Any]:
        shown = []
        with Image.open(path) as image:
            for number in range(image.n_frames):
                image.seek(number)
                image.load()
                shown.append(image.info["duration"])
                if number == 1:
                    page = np.asarray(image.convert("L"))
            return page, (shown, image.info["loop"], image.info.get("comment"))

    return read


def gif(path: Path) -> Read:
    return animation(path, comment=b"a scene")


def animated_webp(path: Path) -> Read:
    return animation(path, lossless=True)


def mpo(path: Path) -> Read:
    first, *others = [Image.fromarray(page) for page in STACK]
    exif = Image.Exif()
    exif[0x010E] = "a scene"
    first.save(path, format="MPO", save_all=True, append_images=others, quality=93, exif=exif)

    def read(path: Path) -> tuple[np.ndarray, Any]:
        tables = []
        with Image.open(path) as image:
            description = image.getexif()[0x010E]
            for number in range(image.n_frames):
                image.seek(number)
                tables.append(image.quantization)
            image.seek(1)
            return np.asarray(image), (tables, description)

    return read


def pgm(path: Path, kind: int = 5, top: int = 1023) -> Read:
    values = np.rint(NOISY * top / 255).clip(0, top).astype(np.int64)
    head = b"P%d # a comment\n56 48\n%d\n" % (kind, top)
    body = values.astype(">u2" if top > 255 else "u1").tobytes()
    if kind == 2:
        body = b"\n".join(b" ".join(b"%d" % v for v in row) for row in values.tolist())
    path.write_bytes(head + body)

    def read(path: Path) -> tuple[np.ndarray, Any]:
        raw = path.read_bytes()
        body = raw[len(head) :]
        dtype = ">u2" if top > 255 else "u1"
        flat = np.array(body.split(), int) if kind == 2 else np.frombuffer(body, dtype)
        return flat.reshape(48, 56) * (255 / top), raw[: len(head)]

    return read


def pgm_8(path: Path) -> Read:
    return pgm(path, top=255)


def pgm_text(path: Path) -> Read:
    return pgm(path, kind=2)


def npz(path: Path) -> Read:
    np.savez_compressed(path, image=NOISY, names=np.array(["a", "b"]), gain=2.0)

    def read(path: Path) -> tuple[np.ndarray, Any]:
        with np.load(path) as file:
            return file["image"], (file["names"].tolist(), float(file["gain"]))

    return read


def tsv(path: Path) -> Read:
    lines = [f'"a\tb"\t{t!r}\t{v!r}' for t, v in zip(TIME.tolist(), HISS.tolist(), strict=True)]
    path.write_text("\n".join(["a, b, c, d\ttime\t1", *lines]) + "\n")

    def read(path: Path) -> tuple[np.ndarray, Any]:
        rows = [line.rpartition("\t") for line in path.read_text().splitlines()]
        return np.array([float(row[2]) for row in rows[1:]]), ([row[0] for row in rows], rows[0])

    return read


def excel(path: Path) -> Read:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["time", "1"])
    for row in zip(TIME.tolist(), HISS.tolist(), strict=True):
        book.active.append(row)
    book.active["A1"].font = openpyxl.styles.Font(bold=True)
    book.create_sheet("notes")["A1"] = "=1+1"
    book.save(path)

    def read(path: Path) -> tuple[np.ndarray, Any]:
        book = openpyxl.load_workbook(path)
        rows = list(book.active.iter_rows(values_only=True))
        names = book.sheetnames, rows[0], book.active["A1"].font.bold, book["notes"]["A1"].value
        return np.array([row[1] for row in rows[1:]]), (names, [row[0] for row in rows])

    return read


def flac(path: Path) -> Read:
    read = sound(path, subtype="PCM_24")
    raw = path.read_bytes()
    place = 4
    while not raw[place] & 128:
        place += 4 + int.from_bytes(raw[place + 1 : place + 4], "big")
    application = b"\x02" + (9).to_bytes(3, "big") + b"testcover"
    path.write_bytes(raw[:place] + application + raw[place:])

    def samples(path: Path) -> tuple[np.ndarray, Any]:
        values, head = read(path)
        return values, (head, b"cover" in path.read_bytes())

    return samples


def ogg(path: Path) -> Read:
    return sound(path, format="OGG", subtype="VORBIS")


def aiff(path: Path) -> Read:
    return sound(path, subtype="PCM_16")


IMAGES = {
    "in.fits": fits, "in.fits.gz": fits, "in.nii": nifti, "in.nii.gz": nifti, "in.dcm": dicom,
    "imagej.tif": imagej, "in.ome.tif": ome, "single.tif": single, "in.bmp": bmp, "in.webp": webp,
    "in.tga": tga, "in.gif": gif, "animated.webp": animated_webp, "animated.png": animation,
    "in.mpo": mpo, "in.pgm": pgm, "8.pgm": pgm_8, "text.pgm": pgm_text, "in.npz": npz,
}  # fmt: skip
SIGNALS = {
    "rf64.wav": rf64, "pipe.wav": pipe, "in.flac": flac, "in.ogg": ogg, "in.aiff": aiff,
    "in.tsv": tsv, "in.xlsx": excel,
}  # fmt: skip
