"""TIFF images, page by page."""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sparsact._common.errors import InputError
from sparsact._common.extras import require
from sparsact.denoise.files.disk_array import LARGE
from sparsact.denoise.files.file_content import Array, Content, FileFormat, integer_peak
from sparsact.denoise.files.raw_numbers import RawNumbers, bytes_of, replace_numbers

# tags that tifffile writes from the pixels and the arguments of `_options`
STRUCTURAL = {
    254, 255, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 282, 283, 284, 296, 317, 320,
    322, 323, 324, 325, 338, 339, 347, 530, 531, 532,
}  # fmt: skip

CIELAB = "is in CIELab"  # its a* and b* are signed
# photometric interpretations without colours to denoise
NO_COLOURS = {3: "has a palette", 6: "is in YCbCr", 8: CIELAB, 9: CIELAB, 10: CIELAB}
ASCII = 2  # the type of a text tag
DIRECTORIES = {34665: "EXIF", 34853: "GPS", 40965: "interoperability"}  # that tags point to
LOSSY = {6, 7, 33007, 34892}  # codings as JPEG
NODATA = 42113  # GDAL's tag with the number that stands for a missing value


def read_tiff(path: Path) -> Content:
    """Grey or colour pages of any integer or float depth; extra samples (alpha) are kept."""
    tifffile = require("tifffile", "denoise")
    with _strict(), tifffile.TiffFile(path) as file:
        if any(page.subifds for page in file.pages):
            raise InputError(f"{path} holds a pyramid of images; extract the one to denoise")
        pages = [(_pixels(page), _options(page)) for page in file.pages]
        markers = {_nodata(page, path) for page in file.pages}
        big, order = file.is_bigtiff, file.byteorder
        notes = _losses(file)
        if any(series.is_truncated for series in file.series):  # from here on, pages lack tags
            return _single_directory(path, file)
        stack, depth = _stack(file)
    if not pages:
        raise InputError(f"{path} is a TIFF without pages")
    splits = [_split(pixels, options, path) for pixels, options in pages]

    def write(target: Path, blocks: list[Array]) -> None:
        with tifffile.TiffWriter(target, bigtiff=big, byteorder=order) as writer:
            for block, (_, axis, extra), (_, options) in zip(blocks, splits, pages, strict=True):
                pixels = block if axis is None else np.concatenate([block, extra], axis=axis)
                writer.write(pixels, metadata=None, **options)

    colours = [colour for colour, _, _ in splits]
    axes = {axis for _, axis, _ in splits}
    if len(axes) > 1:
        raise InputError(f"{path} mixes grey and colour pages; split it")
    if len(markers) > 1:
        raise InputError(f"{path} has pages with different nodata values; split it")
    peak = integer_peak(colours[0].dtype)
    return Content(
        colours, 2, axes.pop(), peak, write, markers.pop(), notes, stack=stack, depth=depth
    )


def _single_directory(path: Path, file: Any) -> Content:
    """A stack with one directory for all slices, as ImageJ writes it above 4 GB.

    The numbers are replaced in the bytes of the file.
    """
    series, page = file.series[0], file.pages[0]
    _, axis, extra = _split(page.asarray(), _options(page), path)
    is_raw = series.dataoffset is not None and page.compression == 1
    if not is_raw or len(file.series) > 1 or extra.size or axis == 0:
        raise InputError(f"{path} has one directory for {series.shape}; save it with one per page")
    shape = tuple(series.shape)
    place = RawNumbers(series.dataoffset, page.dtype.newbyteorder(file.byteorder), shape)
    slices = place.within(bytes_of(path)).reshape(-1, *page.shape)

    def write(target: Path, blocks: list[Array]) -> None:
        flat = [
            RawNumbers(place.offset + i * slices[0].nbytes, place.dtype, page.shape)
            for i in range(len(slices))
        ]
        replace_numbers(path, target, flat, blocks)

    leading = shape[: len(shape) - len(page.shape)]
    return Content(
        list(slices),
        2,
        axis,
        integer_peak(page.dtype),
        write,
        _nodata(page, path),
        stack=leading,
        depth=_depth(series.axes[: len(leading)]),
    )


def _pixels(page: Any) -> Array:
    """The pixels of a page; those of a large one lie on disk."""
    pixels: Array = page.asarray(out="memmap" if page.size >= LARGE else None)
    return pixels


def _stack(file: Any) -> tuple[tuple[int, ...] | None, int]:
    """The shape of the stack that the pages form, and its dim of slices."""
    pages = file.pages
    if len(pages) < 2 or len(file.series) != 1:
        return None, -1
    series, page = file.series[0], pages[0]
    leading = tuple(series.shape[: len(series.shape) - len(page.shape)])
    if math.prod(leading) != len(pages):
        return None, -1
    return leading, _depth(series.axes[: len(leading)])


def _depth(axes: str) -> int:
    """The dim of the slices (Z), else of time, else the last one."""
    return next((axes.index(axis) for axis in "ZT" if axis in axes), -1)


def _losses(file: Any) -> tuple[str, ...]:
    """What is not kept, in words."""
    tags = {tag.code for page in file.pages for tag in page.tags.values()}
    lost = [name for code, name in DIRECTORIES.items() if code in tags]
    notes: tuple[str, ...] = (f"not kept: {', '.join(lost)}",) if lost else ()
    if any(page.compression in LOSSY for page in file.pages):
        notes += ("coded as JPEG again, which loses detail",)
    return notes


@contextmanager
def _strict() -> Iterator[None]:
    """Raise an exception where tifffile logs an error, then leaves out a tag or a page."""

    def stop(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            raise ValueError(record.getMessage())
        return False

    logger = logging.getLogger("tifffile")
    logger.addFilter(stop)
    try:
        yield
    finally:
        logger.removeFilter(stop)


def _split(pixels: Array, options: dict[str, Any], path: Path) -> tuple[Array, int | None, Array]:
    """The colours, their dim, and the extra samples."""
    if pixels.dtype.kind not in "uif":
        raise InputError(f"{path} holds {pixels.dtype} pixels; expected integers or floats")
    if options["photometric"] in NO_COLOURS:
        raise InputError(f"{path} {NO_COLOURS[options['photometric']]}; convert it to RGB")
    if pixels.ndim == 2:
        return pixels, None, pixels[:0]
    if pixels.ndim != 3 or options["planarconfig"] is None:
        raise InputError(f"{path} has pages of shape {pixels.shape}; expected (H, W[, samples])")
    axis = 0 if options["planarconfig"] == 2 else 2
    colours = pixels.shape[axis] - len(options["extrasamples"] or ())
    head, tail = np.split(pixels, [colours], axis=axis)
    return head, axis, tail


def _options(page: Any) -> dict[str, Any]:
    """The arguments with which `TiffWriter.write` writes such a page again."""
    tags = [
        (tag.code, tag.dtype, tag.count, _value(tag), True)
        for tag in page.tags.values()
        if tag.code not in STRUCTURAL and tag.code not in DIRECTORIES
    ]
    return {
        "photometric": page.photometric,
        "planarconfig": page.planarconfig if page.samplesperpixel > 1 else None,
        "extrasamples": page.extrasamples or None,
        "tile": (page.tilelength, page.tilewidth) if page.is_tiled else None,
        "rowsperstrip": None if page.is_tiled else page.rowsperstrip,
        "predictor": page.predictor if page.predictor != 1 else None,
        "compression": page.compression if page.compression != 1 else None,
        "resolution": page.resolution if 282 in page.tags else None,
        "resolutionunit": page.resolutionunit if 296 in page.tags else None,
        "software": False,
        "extratags": tags,
    }


def _nodata(page: Any, path: Path) -> float | None:
    """The number that stands for a missing value; None also for NaN, which needs no number."""
    if NODATA not in page.tags:
        return None
    text = str(page.tags[NODATA].value).strip(" \0")
    try:
        value = float(text)
    except ValueError as error:
        raise InputError(f"{path} has the nodata value {text!r}, which is no number") from error
    return None if math.isnan(value) else value


def _value(tag: Any) -> Any:
    """The value of a tag.

    Text is returned as bytes, because it may be in any encoding, and so is what tifffile takes
    apart, such as the overlays of ImageJ.
    """
    if tag.dtype != ASCII and isinstance(tag.value, (str, bytes, int, float, tuple)):
        return tag.value
    file = tag.parent.filehandle
    file.seek(tag.valueoffset)
    return file.read(tag.valuebytecount)


TIFF = FileFormat(
    "TIFF",
    (".tif", ".tiff"),
    read_tiff,
    library="tifffile",
    extra="denoise",
    keeps="pages, depth, tags (ImageJ, OME, GeoTIFF), coding, tiles, byte order",
    loses="directories of EXIF and GPS",
    options=("dims",),
)
