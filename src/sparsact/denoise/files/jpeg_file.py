"""JPEG images."""

from pathlib import Path
from typing import Any

from sparsact._common.errors import InputError
from sparsact._common.extras import require
from sparsact.denoise.files.file_content import Array, Content, FileFormat
from sparsact.denoise.files.image_pixels import open_image, pixel_content, pixels_of

METADATA = ("exif", "icc_profile", "dpi", "comment", "xmp")


def read_jpeg(path: Path) -> Content:
    """A JPEG; its quantisation, subsampling, EXIF and colour profile are kept."""
    plugin = require("PIL.JpegImagePlugin", "denoise")
    image_module = require("PIL.Image", "denoise")
    with open_image(path, "JPEG") as image:
        pixels = pixels_of(image, path)
        mode = image.mode
        options: dict[str, Any] = {
            "qtables": image.quantization,
            "subsampling": plugin.get_sampling(image),
            "progressive": bool(image.info.get("progressive")),
        }
        options |= {key: image.info[key] for key in METADATA if key in image.info}

    def write(target: Path, colours: Array) -> None:
        image_module.fromarray(colours, mode=None).convert(mode).save(
            target, format="JPEG", **options
        )

    if mode == "CMYK":
        raise InputError(f"{path} is a CMYK JPEG; convert it to RGB")
    return pixel_content(pixels, write)


JPEG = FileFormat("JPEG", (".jpg", ".jpeg"), read_jpeg)
