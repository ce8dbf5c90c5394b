"""WAV sounds."""

import struct
from pathlib import Path
from typing import Any

import numpy as np

from sparsact._common.errors import InputError
from sparsact._common.extras import require
from sparsact.denoise.files.disk_array import LARGE, new_array, release
from sparsact.denoise.files.file_content import Array, Content, FileFormat, pieces
from sparsact.denoise.files.raw_numbers import bytes_of

PEAK = 2.0  # samples lie between −1 and 1
SIGNATURES = (b"RIFF", b"RF64", b"BW64")
UNKNOWN = 0x7FFF0000  # sizes from here on, that are too large, mean: up to the end
AT_ONCE = 2**20  # frames
FRAME = 2048  # bytes of the longest frame, of which a pipe may end with a part
IN_FLOAT32 = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "FLOAT", "ULAW", "ALAW")


def read_wav(path: Path) -> Content:
    """Samples between −1 and 1, (frames,) or (frames, tracks), of any depth.

    Results replace the samples within the bytes of the file, so everything else is kept.
    """
    soundfile: Any = require("soundfile", "denoise")
    raw = bytes_of(path)
    place = _samples_place(raw)
    with soundfile.SoundFile(path) as file:
        samples = read_samples(file)
        coding = {"format": file.format, "subtype": file.subtype, "endian": file.endian}
        rate = file.samplerate

    def write(target: Path, blocks: list[Array]) -> None:
        encoded = target.with_name(f"{target.name}.encoded")
        try:
            with soundfile.SoundFile(encoded, "w", rate, _tracks(samples), **coding) as file:
                write_samples(file, blocks[0])
            new = bytes_of(encoded)
            sound = new[_samples_place(new)]
            stop = place.start + len(sound)
            if not 0 <= place.stop - stop < FRAME:
                raise InputError(f"{path} is coded as {coding['subtype']}; convert it to PCM")
            with target.open("wb") as out:
                for bytes_ in (raw[: place.start], sound, raw[stop:]):
                    for part in pieces(bytes_):
                        part.tofile(out)
        finally:
            encoded.unlink(missing_ok=True)

    return Content([samples], 1, 1 if samples.ndim == 2 else None, PEAK, write)


def read_samples(file: Any) -> Array:
    """The samples of an open sound; many lie on disk, in float32 where that is exact."""
    shape = (file.frames,) if file.channels == 1 else (file.frames, file.channels)
    is_large = file.frames * file.channels >= LARGE
    samples = new_array(
        shape, np.float32 if is_large and file.subtype in IN_FLOAT32 else np.float64
    )
    count = 0
    for block in file.blocks(AT_ONCE, dtype=samples.dtype.name):
        samples[count : count + len(block)] = block
        count += len(block)
        release(samples)
    if count < file.frames:
        raise ValueError(f"it is cut off: {count} of {file.frames} samples are there")
    return samples


def write_samples(file: Any, samples: Array) -> None:
    """Write samples to an open sound, piece by piece."""
    for start in range(0, len(samples), AT_ONCE):
        file.write(np.ascontiguousarray(samples[start : start + AT_ONCE]))
        release(samples)


def _tracks(samples: Array) -> int:
    return 1 if samples.ndim == 1 else samples.shape[1]


def _samples_place(raw: Array) -> slice:
    """The place of the samples: the body of the chunk ``data``."""
    if raw[:4].tobytes() not in SIGNATURES or raw[8:12].tobytes() != b"WAVE":
        raise ValueError("it does not start with the signature of a WAV")
    place, long = 12, 0
    while place + 8 <= len(raw):
        kind, length = struct.unpack("<4sI", raw[place : place + 8].tobytes())
        start = place + 8
        if kind == b"ds64":
            long = struct.unpack("<Q", raw[start + 8 : start + 16].tobytes())[0]
        if kind == b"data":
            length = long if long and length == 2**32 - 1 else length
            if start + length > len(raw) and length < UNKNOWN:
                raise ValueError("it is cut off")
            return slice(start, min(start + length, len(raw)))  # a pipe does not know its size
        place = start + length + length % 2
    raise ValueError("it has no samples")


WAV = FileFormat(
    "WAV",
    (".wav", ".rf64", ".bwf"),
    read_wav,
    library="soundfile",
    extra="denoise",
    keeps="rate, depth, every chunk (titles, cues, broadcast data), RF64",
)
