"""Images in a folder per class, with or without folders for the parts."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sparsact._common.errors import InputError
from sparsact.compare.data.dataset import PARTS, Dataset, Floats
from sparsact.compare.data.image_pixels import Pixels, read_pixels
from sparsact.compare.data.part_names import PART_NAMES

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".pgm", ".ppm"}


@dataclass(frozen=True)
class _Place:
    """Where an image belongs."""

    path: Path
    part: str | None
    label: str | None


def read_images(folder: Path, size: int) -> Dataset:
    """Read every image below `folder`; the folder names are the classes.

    A file that cannot be read is left out, and named in the notes.

    Raises:
        InputError: there is no image, or most of them cannot be read.
    """
    notes: list[str] = []
    places = _places(folder, _image_files(folder, notes), notes)
    pixels: list[Pixels] = []
    kept: list[_Place] = []
    faults: list[InputError] = []
    for place in places:
        try:
            pixels.append(read_pixels(place.path, size))
            kept.append(place)
        except InputError as error:
            faults.append(error)
    if faults:
        if 2 * len(faults) >= len(places):
            raise faults[0]
        more = f" ({len(faults)} such files)" if len(faults) > 1 else ""
        notes.append(f"left out: {faults[0]}{more}")
    x = _scaled(pixels, kept, notes)
    labels = [place.label for place in kept]
    parts = [place.part for place in kept]
    return Dataset(
        name=folder.resolve().name,
        x=x.reshape(len(x), -1),
        y=None if None in labels else np.array(labels),
        columns=tuple(f"pixel {i}" for i in range(x[0].size)),
        parts=None if None in parts else np.array(parts),
        image_shape=(size, size, x.shape[-1]),
        default_network="convnet",
        notes=tuple(notes),
    )


def _image_files(folder: Path, notes: list[str]) -> list[Path]:
    """All images, sorted; hidden and foreign files are left out."""
    images: list[Path] = []
    foreign: list[Path] = []
    empty: list[Path] = []
    for path in sorted(folder.rglob("*")):
        names = path.relative_to(folder).parts
        if any(name.startswith(".") or name == "__MACOSX" for name in names):
            continue
        if path.is_dir():
            empty += [] if any(path.iterdir()) else [path]
            continue
        (images if path.suffix.lower() in SUFFIXES else foreign).append(path)
    if not images:
        raise InputError(f"{folder} holds no images ({', '.join(sorted(SUFFIXES))})")
    if empty:
        raise InputError(f"the folder {empty[0]} is empty: put images into it, or remove it")
    if foreign:
        first = foreign[0].relative_to(folder)
        notes.append(f"files that are no images are left out: {len(foreign)}, such as {first}")
    return images


def _places(folder: Path, paths: list[Path], notes: list[str]) -> list[_Place]:
    """The part and the class of each image, by the names of its folders."""
    tops = {path.relative_to(folder).parts[0] for path in paths if path.parent != folder}
    parts = {top: PART_NAMES[top.lower()] for top in tops if top.lower() in PART_NAMES}
    if PARTS[0] in parts.values() and len(set(parts.values())) > 1:
        used = [path for path in paths if path.relative_to(folder).parts[0] in parts]
        _note_others(folder, paths, used, "are in no folder of a part", notes)
        places = [
            _Place(path, parts[path.relative_to(folder).parts[0]], _label(path, folder, 1))
            for path in used
        ]
        shown = ", ".join(f"{top}/" for top in sorted(parts))
        notes.append(f"the folders {shown} are used as the split")
        return _labelled(places, notes)
    used = [path for path in paths if path.parent != folder] or paths
    _note_others(folder, paths, used, "are in no folder of a class", notes)
    return [_Place(path, None, _label(path, folder, 0)) for path in used]


def _label(path: Path, folder: Path, depth: int) -> str | None:
    names = path.relative_to(folder).parts
    return names[depth] if len(names) > depth + 1 else None


def _labelled(places: list[_Place], notes: list[str]) -> list[_Place]:
    """Without the parts that have no classes, if others have."""
    without = {place.part for place in places if place.label is None}
    if not without or all(place.label is None for place in places):
        return places
    kept = [place for place in places if place.label is not None]
    counts = Counter(place.part for place in places if place.label is None)
    if not any(place.part == PARTS[0] for place in kept):
        raise InputError("the images in the training folder are in no folder of a class")
    shown = ", ".join(f"{count} of the {part} part" for part, count in counts.items())
    notes.append(f"images without a folder of a class are left out: {shown}")
    return kept


def _note_others(
    folder: Path, paths: list[Path], used: list[Path], fault: str, notes: list[str]
) -> None:
    others = sorted(set(paths) - set(used))
    if others:
        first = others[0].relative_to(folder)
        notes.append(f"images that {fault} are left out: {len(others)}, such as {first}")


def _scaled(pixels: list[Pixels], places: list[_Place], notes: list[str]) -> Floats:
    """(images, size, size, channels) float64; channels that say nothing are left out."""
    values = np.stack([image.values for image in pixels]).astype(np.float64)
    floats = np.array([image.has_own_range for image in pixels])
    if floats.any():
        in_training = floats & np.array([place.part in (None, PARTS[0]) for place in places])
        colours = values[in_training if in_training.any() else floats][..., :3]
        low, high = float(colours.min()), float(colours.max())
        if not (low >= 0 and 0 < high <= 1) and high > low:
            values[floats, ..., :3] = (values[floats, ..., :3] - low) / (high - low)
            kinds = "images of floats or 32-bit integers"
            notes.append(f"{kinds}, scaled from {low:g} … {high:g} to 0 … 1: {int(floats.sum())}")
    deep = sum(image.reduced for image in pixels)
    if deep:
        notes.append(f"colour images with 16 bits are reduced to 8 bits: {deep}")
    several = sum(image.frames > 1 for image in pixels)
    if several:
        notes.append(f"files with several images, of which the first is used: {several}")
    colours, opacity = values[..., :3], values[..., 3:]
    if (colours == colours[..., :1]).all():
        colours = colours[..., :1]
    if (opacity == 1).all():
        return colours
    count = int((opacity != 1).any(axis=(1, 2, 3)).sum())
    notes.append(f"images with transparent pixels, whose opacity is one more channel: {count}")
    return np.concatenate([colours, opacity], -1)
