"""NIfTI volumes."""

from pathlib import Path
from typing import Any

from sparsact._common.errors import InputError
from sparsact._common.extras import require
from sparsact.denoise.files.file_content import Array, Content, FileFormat, integer_peak
from sparsact.denoise.files.raw_numbers import RawNumbers, bytes_of, replace_numbers
from sparsact.denoise.files.scaled_numbers import Scale

ENOUGH_SLICES = 16  # below, the slices are denoised one by one


def read_nifti(path: Path) -> Content:
    """A volume (time, z, y, x) in its units (scl_slope and scl_inter).

    The numbers are replaced in the bytes of the file.
    """
    image: Any = require("nibabel", "medical").load(path)
    proxy = image.dataobj
    if proxy.dtype.kind not in "uif":
        raise InputError(f"{path} holds {proxy.dtype}; expected integers or floats")
    place = RawNumbers(proxy.offset, proxy.dtype, proxy.shape[::-1])  # x varies fastest
    stored = place.within(bytes_of(path))
    scale = Scale(float(proxy.slope), float(proxy.inter))
    block = stored if scale.is_identity else scale.numbers(stored, None)

    def write(target: Path, blocks: list[Array]) -> None:
        new = blocks[0] if scale.is_identity else scale.restored(blocks[0], stored, None)
        replace_numbers(path, target, [place], [new])

    deep = block.ndim > 2 and block.shape[-3] >= ENOUGH_SLICES
    dims = 3 if deep else min(2, block.ndim)
    return Content([block], dims, None, integer_peak(block.dtype), write)


NIFTI = FileFormat(
    "NIfTI",
    (".nii", ".nii.gz"),
    read_nifti,
    library="nibabel",
    extra="medical",
    keeps="the whole header with its extensions, slope and intercept",
    options=("dims",),
)
