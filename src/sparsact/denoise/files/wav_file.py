"""WAV sounds."""

import io
import struct
from pathlib import Path

from sparsact._common.errors import InputError
from sparsact._common.extras import require
from sparsact.denoise.files.file_content import Array, Content, FileFormat

PEAK = 2.0  # samples lie between −1 and 1


def read_wav(path: Path) -> Content:
    """Samples between −1 and 1, (frames,) or (frames, tracks), of any depth.

    Results replace the samples within the bytes of the file, so everything else is kept.
    """
    soundfile = require("soundfile", "denoise")
    raw = path.read_bytes()
    with soundfile.SoundFile(io.BytesIO(raw)) as file:
        samples = file.read(dtype="float64")
        coding = {"format": file.format, "subtype": file.subtype, "endian": file.endian}
        rate = file.samplerate
    place = _samples_place(raw)

    def write(target: Path, blocks: list[Array]) -> None:
        buffer = io.BytesIO()
        soundfile.write(buffer, blocks[0], rate, **coding)
        encoded = buffer.getvalue()
        new, old = _samples_place(encoded), place
        if new.stop - new.start != old.stop - old.start:
            raise InputError(f"{path} is coded as {coding['subtype']}; convert it to PCM")
        target.write_bytes(raw[: old.start] + encoded[new] + raw[old.stop :])

    return Content([samples], 1, 1 if samples.ndim == 2 else None, PEAK, write)


def _samples_place(raw: bytes) -> slice:
    """The place of the samples: the body of the chunk ``data``."""
    if raw[:4] != b"RIFF" or raw[8:12] != b"WAVE":
        raise ValueError("it does not start with the signature of a WAV")
    place = 12
    while place + 8 <= len(raw):
        kind, length = struct.unpack_from("<4sI", raw, place)
        start = place + 8
        if kind == b"data":
            if start + length > len(raw):
                raise ValueError("it is cut off")
            return slice(start, start + length)
        place = start + length + length % 2
    raise ValueError("it has no samples")


WAV = FileFormat("WAV", (".wav",), read_wav)
