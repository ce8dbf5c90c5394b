"""FITS images."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from sparsact._common.errors import InputError
from sparsact._common.extras import require
from sparsact.denoise.files.file_content import Array, Content, FileFormat, integer_peak
from sparsact.denoise.files.raw_numbers import RawNumbers, bytes_of, replace_numbers
from sparsact.denoise.files.scaled_numbers import Scale

DTYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}  # by BITPIX
# extensions that describe the image: its errors, weights and flags
DESCRIBING = ("DQ", "ERR", "VAR", "WHT", "CTX", "CON", "IVAR", "MASK", "FLAG", "QUALITY")
Stored = tuple[RawNumbers, Array, Scale, float | None]


def read_fits(path: Path) -> Content:
    """Every image of a FITS file, in physical units (BSCALE, BZERO); BLANK is missing.

    The numbers are replaced in the bytes of the file.
    """
    fits: Any = require("astropy.io.fits", "astronomy")
    raw = bytes_of(path)
    stored: list[Stored] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # astropy warns of what is cut off or damaged
        with fits.open(path, do_not_scale_image_data=True, disable_image_compression=True) as file:
            has_sum, left = False, []
            for unit in file:
                if unit.header.get("ZIMAGE"):
                    raise InputError(f"{path} holds a compressed image; unpack it by funpack")
                has_sum |= "CHECKSUM" in unit.header or "DATASUM" in unit.header
                if not unit.is_image or not unit.header["NAXIS"] or 0 in unit.shape:
                    continue
                if unit.name.startswith(DESCRIBING):
                    left.append(unit.name)
                else:
                    stored.append(_stored(unit, raw))
    if not stored:
        raise InputError(f"{path} holds no image")
    whole = all(scale.is_identity for _, _, scale, _ in stored)
    blanks = {blank for _, _, _, blank in stored}
    whole &= len(blanks) == 1
    blocks = [v if whole else scale.numbers(v, blank) for _, v, scale, blank in stored]

    def write(target: Path, new: list[Array]) -> None:
        arrays = [
            values if whole else scale.restored(values, old, blank)
            for values, (_, old, scale, blank) in zip(new, stored, strict=True)
        ]
        replace_numbers(path, target, [place for place, *_ in stored], arrays)
        if has_sum:
            _sum_again(fits, target)

    first = blocks[0]
    return Content(
        blocks,
        min(2, min(block.ndim for block in blocks)),
        None,
        integer_peak(first.dtype),
        write,
        next(iter(blanks)) if whole else None,
        (f"left as they are: {', '.join(left)}",) if left else (),
    )


def _stored(unit: Any, raw: Array) -> Stored:
    header = unit.header
    place = RawNumbers(unit.fileinfo()["datLoc"], np.dtype(DTYPES[header["BITPIX"]]), unit.shape)
    scale = Scale(float(header.get("BSCALE", 1)), float(header.get("BZERO", 0)))
    blank = float(header["BLANK"]) if "BLANK" in header and header["BITPIX"] > 0 else None
    return place, place.within(raw), scale, blank


def _sum_again(fits: Any, path: Path) -> None:
    """Bring the checksums of a file up to date."""
    with fits.open(path, "update", do_not_scale_image_data=True) as file:
        for unit in file:
            if "CHECKSUM" in unit.header:
                unit.add_checksum()
            elif "DATASUM" in unit.header:
                unit.add_datasum()


FITS = FileFormat(
    "FITS",
    (".fits", ".fit", ".fts", ".fits.gz"),
    read_fits,
    library="astropy",
    extra="astronomy",
    keeps="all headers, tables, BSCALE and BZERO, BLANK; checksums are computed again",
    options=("dims",),
)
