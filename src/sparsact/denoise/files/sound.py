"""WAV: the samples are replaced inside a copy of the file, so that everything else stays."""

import shutil
from pathlib import Path

from sparsact._extras import require
from sparsact.denoise.files.content import Array, Content, FileError

PEAK = 2.0  # samples lie between −1 and 1


def read_wav(path: Path) -> Content:
    """Samples between −1 and 1, (frames,) or (frames, tracks), of any depth."""
    soundfile = require("soundfile", "denoise")
    try:
        samples, _ = soundfile.read(path, dtype="float64")
    except soundfile.LibsndfileError as error:
        raise FileError(f"{path} is not a readable WAV: {error.error_string}") from error

    def write(target: Path, blocks: list[Array]) -> None:
        shutil.copyfile(path, target)
        with soundfile.SoundFile(target, "r+") as file:
            file.seek(0)
            file.write(blocks[0])

    return Content([samples], 1, 1 if samples.ndim == 2 else None, PEAK, write)
