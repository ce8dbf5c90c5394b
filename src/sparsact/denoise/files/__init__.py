"""Files that hold signals, images and volumes; results are written in the format of the input."""

from dataclasses import replace
from pathlib import Path

from sparsact._common.errors import InputError, MissingInputError, SparsactError
from sparsact.denoise.files.csv_file import CSV
from sparsact.denoise.files.dicom_file import DICOM
from sparsact.denoise.files.excel_file import EXCEL
from sparsact.denoise.files.file_content import Content, FileFormat
from sparsact.denoise.files.fits_file import FITS
from sparsact.denoise.files.jpeg_file import JPEG
from sparsact.denoise.files.netpbm_file import NETPBM
from sparsact.denoise.files.nifti_file import NIFTI
from sparsact.denoise.files.npy_file import NPY, NPZ
from sparsact.denoise.files.pillow_files import BMP, GIF, TGA, WEBP
from sparsact.denoise.files.png_file import PNG
from sparsact.denoise.files.sound_files import AIFF, FLAC, OGG
from sparsact.denoise.files.tiff_file import TIFF
from sparsact.denoise.files.wav_file import WAV

PICTURES = (PNG, JPEG, TIFF, WEBP, BMP, GIF, TGA, NETPBM)
SOUNDS = (WAV, FLAC, OGG, AIFF)
FORMATS = (*PICTURES, FITS, NIFTI, DICOM, *SOUNDS, NPY, NPZ, CSV, EXCEL)
SUFFIXES = tuple(suffix for file_format in FORMATS for suffix in file_format.suffixes)

__all__ = ["FORMATS", "SUFFIXES", "Content", "FileFormat", "format_of", "read", "suffix_of"]


def format_of(path: Path) -> FileFormat:
    """The format of a file, by its suffix.

    Raises:
        InputError: no format has this suffix.
    """
    known = suffix_of(path)
    for file_format in FORMATS:
        if known in file_format.suffixes:
            return file_format
    raise InputError(f"{path}: expected one of {', '.join(SUFFIXES)}")


def suffix_of(path: Path) -> str:
    """The suffix in lower case, with the one before .gz; "" if no format has it."""
    name = path.name.lower()
    return max((suffix for suffix in SUFFIXES if name.endswith(suffix)), key=len, default="")


def read(
    path: Path, column: str | None = None, nodata: float | None = None, masked: bool = False
) -> Content:
    """The numbers of a file, and a function that writes other numbers in their place.

    Args:
        path: of one of `FORMATS`.
        column: of a table, the column to read; of an NPZ, the array.
        nodata: the number that stands for a missing value, instead of the file's own.
        masked: infinite numbers are allowed, because a mask follows.

    Raises:
        MissingInputError: the file does not exist.
        InputError: it is empty, damaged, of another format, or holds infinite numbers.
    """
    file_format = format_of(path)
    try:
        if path.stat().st_size == 0:
            raise InputError(f"{path} is empty")
        options = {"column": column} if "column" in file_format.options else {}
        content = file_format.read(path, **options)
    except SparsactError:
        raise
    except FileNotFoundError as error:
        raise MissingInputError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # parsers raise all kinds of exceptions at damaged files
        if isinstance(error, OSError) and error.strerror:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error
        reason = str(error) or type(error).__name__
        raise InputError(f"{path} is not a readable {file_format.name}: {reason}") from error
    content = content if nodata is None else replace(content, nodata=nodata)
    if not masked:
        content.check_finite(path)
    return content
