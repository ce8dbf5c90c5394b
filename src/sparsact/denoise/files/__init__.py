"""Files that hold signals, images and volumes: read, and written back in their own format."""

from pathlib import Path

from sparsact.denoise.files.arrays import read_csv, read_npy
from sparsact.denoise.files.content import Content, FileError
from sparsact.denoise.files.image import read_jpeg, read_png
from sparsact.denoise.files.sound import read_wav
from sparsact.denoise.files.tiff import read_tiff

READERS = {
    ".png": read_png,
    ".jpg": read_jpeg,
    ".jpeg": read_jpeg,
    ".tif": read_tiff,
    ".tiff": read_tiff,
    ".wav": read_wav,
    ".npy": read_npy,
}
SUFFIXES = (*READERS, ".csv")

__all__ = ["SUFFIXES", "Content", "FileError", "kind", "read"]


def kind(path: Path) -> str:
    """The name of a file's format, by its suffix."""
    suffix = path.suffix[1:].upper()
    return {"JPG": "JPEG", "TIF": "TIFF"}.get(suffix, suffix)


def read(path: Path, column: str | None = None) -> Content:
    """The numbers of a file, by its suffix, and how to write others in their place.

    Args:
        path: a PNG, JPEG, TIFF, WAV, NPY or CSV.
        column: of a CSV, the column to read.

    Raises:
        FileError: it does not exist, is empty, damaged, of another format, or not all finite.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise FileError(f"{path}: expected one of {', '.join(SUFFIXES)}")
    try:
        if path.stat().st_size == 0:
            raise FileError(f"{path} is empty")
        content = read_csv(path, column) if suffix == ".csv" else READERS[suffix](path)
    except (FileError, ImportError):
        raise
    except Exception as error:  # parsers of damaged files raise whatever they stumble over
        if isinstance(error, OSError) and error.strerror:
            raise FileError(f"{path} cannot be read: {error.strerror}") from error
        why = str(error) or type(error).__name__
        raise FileError(f"{path} is not a readable {kind(path)}: {why}") from error
    content.check_finite(path)
    return content
