"""BMP, WebP, GIF and TGA images, and animations frame by frame."""

from pathlib import Path
from typing import Any

from sparsact.denoise.files.file_content import Array, Content, FileFormat
from sparsact.denoise.files.image_pixels import (
    durations_of,
    frames_of,
    image_of,
    open_image,
    pixel_content,
)

# how each kind is coded again, and what Pillow tells of a file that it takes back
CODING: dict[str, dict[str, Any]] = {
    "BMP": {},
    "GIF": {"optimize": False},
    "TGA": {},
    "WEBP": {"lossless": True, "exact": True},
}
KEPT = {
    "BMP": ("dpi",),
    "GIF": ("comment", "loop"),
    "TGA": ("id_section", "compression", "orientation"),
    "WEBP": ("exif", "icc_profile", "xmp", "loop", "background"),
}
KINDS = {".bmp": "BMP", ".gif": "GIF", ".tga": "TGA", ".webp": "WEBP"}


def read_frames(path: Path) -> Content:
    """An image or the frames of an animation, with their durations; alpha is kept."""
    kind = KINDS[path.suffix.lower()]
    notes: tuple[str, ...] = ()
    with open_image(path, kind) as image:
        if kind == "GIF":
            notes = ("not kept: more than 256 colours in a frame",)
        elif image.mode == "P":
            notes = ("not kept: the palette",)
        elif kind == "WEBP" and path.read_bytes()[12:64].find(b"VP8 ") >= 0:
            notes = ("coded without loss, in a larger file",)
        frames = frames_of(image, path)
        known = {key: image.info[key] for key in KEPT[kind] if key in image.info}
        if len(frames) > 1:
            known |= {"duration": durations_of(image)}

    def write(target: Path, blocks: list[Array]) -> None:
        first, *others = map(image_of, blocks)
        more = {"save_all": True, "append_images": others} if others else {}
        first.save(target, format=kind, **CODING[kind], **known, **more)

    return pixel_content(frames, write, notes)


def _declared(name: str, suffix: str, keeps: str, loses: str = "–") -> FileFormat:
    dims = ("dims",) if name in ("GIF", "WebP") else ()
    return FileFormat(name, (suffix,), read_frames, "Pillow", "denoise", keeps, loses, dims)


BMP = _declared("BMP", ".bmp", "depth, resolution", "palettes")
GIF = _declared(
    "GIF", ".gif", "frames, durations, loops, comment", "all but 256 colours in a frame"
)
TGA = _declared("TGA", ".tga", "alpha, identification, run-length coding", "palettes")
WEBP = _declared(
    "WebP", ".webp", "frames, durations, loops, alpha, EXIF, XMP, colour profile",
    "the size of a lossy file, because the result is coded without loss",
)  # fmt: skip
