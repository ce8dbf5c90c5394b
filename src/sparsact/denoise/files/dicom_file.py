"""DICOM images."""

import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sparsact._common.errors import InputError
from sparsact._common.extras import require
from sparsact.denoise.files.file_content import Array, Content, FileFormat, cast
from sparsact.denoise.files.scaled_numbers import Scale

GREY = ("MONOCHROME1", "MONOCHROME2")


def read_dicom(path: Path) -> Content:
    """The frames of a DICOM image, in rescaled units (such as HU); padding is missing."""
    pydicom: Any = require("pydicom", "medical")
    with path.open("rb") as file:
        data = pydicom.dcmread(file)
    if "PixelData" not in data:
        raise InputError(f"{path} holds no pixels of integers")
    colours = data.get("PhotometricInterpretation")
    if colours not in (*GREY, "RGB"):
        raise InputError(f"{path} is in {colours}; convert it to RGB or grey")
    coding = data.file_meta.TransferSyntaxUID
    pixels: Array = data.pixel_array
    stored = list(pixels) if int(data.get("NumberOfFrames", 1)) > 1 else [pixels]
    scale = Scale(float(data.get("RescaleSlope", 1)), float(data.get("RescaleIntercept", 0)))
    padding = data.get("PixelPaddingValue")
    blank = None if padding is None else float(int(padding))
    blocks = stored if scale.is_identity else [scale.numbers(page, blank) for page in stored]
    notes: tuple[str, ...] = ("a new SOPInstanceUID, as it is a derived image",)
    if coding.is_compressed:
        notes += (f"written without its compression ({coding.name})",)

    def write(target: Path, new: list[Array]) -> None:
        pages = [
            values if scale.is_identity else scale.restored(values, old, blank)
            for values, old in zip(new, stored, strict=True)
        ]
        _save(pydicom, path, target, np.stack(pages), int(data.BitsStored))

    peak = None if blocks[0].dtype.kind == "f" else float(2**data.BitsStored - 1)
    channel = 2 if colours == "RGB" else None
    nodata = blank if scale.is_identity else None
    return Content(blocks, 2, channel, peak, write, nodata, notes)


def _save(pydicom: Any, source: Path, target: Path, pixels: Array, bits: int) -> None:
    """The file with other pixels, as an image that is derived from it."""
    data = pydicom.dcmread(source)
    if data.file_meta.TransferSyntaxUID.is_compressed:
        data.decompress()
    low = -(2 ** (bits - 1)) if pixels.dtype.kind == "i" else 0
    limited = cast(np.clip(pixels, low, low + 2**bits - 1), pixels.dtype)
    order: Literal["<", ">"] = "<" if data.file_meta.TransferSyntaxUID.is_little_endian else ">"
    if int(data.get("SamplesPerPixel", 1)) > 1 and int(data.get("PlanarConfiguration", 0)) == 1:
        limited = np.moveaxis(limited, -1, 1)
    raw = limited.astype(limited.dtype.newbyteorder(order)).tobytes()
    data.PixelData = raw + b"\0" * (len(raw) % 2)
    origin = [str(data.get("SOPInstanceUID")), hashlib.sha256(raw).hexdigest()]
    uid = pydicom.uid.generate_uid(entropy_srcs=origin)  # the same whenever it is repeated
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = uid
    data.ImageType = ["DERIVED", *list(data.get("ImageType", ["", "PRIMARY"]))[1:]]
    with target.open("wb") as file:
        data.save_as(file)


DICOM = FileFormat(
    "DICOM",
    (".dcm", ".dicom"),
    read_dicom,
    library="pydicom",
    extra="medical",
    keeps="all elements, depth, rescale slope and intercept, padding",
    loses="compression; the result is a derived image with a new SOPInstanceUID",
    options=("dims",),
)
