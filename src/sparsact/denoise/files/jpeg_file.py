"""JPEG images, and several in one file (MPO)."""

from pathlib import Path
from typing import Any

import numpy as np

from sparsact._common.errors import InputError
from sparsact._common.extras import require
from sparsact.denoise.files.file_content import Array, Content, FileFormat
from sparsact.denoise.files.image_pixels import image_of, open_image, pixel_content

METADATA = ("exif", "icc_profile", "dpi", "comment", "xmp")


def read_jpeg(path: Path) -> Content:
    """The images of a JPEG; quantisation, subsampling, EXIF and colour profile are kept."""
    frames, options = [], []
    with open_image(path, "JPEG", "MPO") as image:
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            image.load()
            if image.mode == "CMYK":
                raise InputError(f"{path} is a CMYK JPEG; convert it to RGB")
            frames.append(np.asarray(image))
            options.append(_options(image))
    if len({pixels.ndim for pixels in frames}) > 1:
        raise InputError(f"{path} mixes grey and colour images; split it")

    def write(target: Path, blocks: list[Array]) -> None:
        images = list(map(image_of, blocks))
        if len(images) == 1:
            images[0].save(target, format="JPEG", **options[0])
            return
        for image, own in zip(images[1:], options[1:], strict=True):
            image.encoderinfo = own
        images[0].save(target, format="MPO", save_all=True, append_images=images[1:], **options[0])

    notes = ("not kept: the kinds of its images (MPO)",) if len(frames) > 1 else ()
    return pixel_content(frames, write, notes)


def _options(image: Any) -> dict[str, Any]:
    """The arguments with which Pillow codes the current image in the same way."""
    plugin: Any = require("PIL.JpegImagePlugin", "denoise")
    return {
        "qtables": image.quantization,
        "subsampling": plugin.get_sampling(image),
        "progressive": bool(image.info.get("progressive")),
    } | {key: image.info[key] for key in METADATA if key in image.info}


JPEG = FileFormat(
    "JPEG",
    (".jpg", ".jpeg", ".mpo"),
    read_jpeg,
    library="Pillow",
    extra="denoise",
    keeps="quantisation, subsampling, EXIF, XMP, colour profile, comment; images of an MPO",
    loses="detail, by its coding; the kinds of the images in an MPO",
)
