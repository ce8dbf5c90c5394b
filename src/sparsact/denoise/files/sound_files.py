"""FLAC, OGG and AIFF sounds."""

from pathlib import Path
from typing import Any

from sparsact._common.extras import require
from sparsact.denoise.files.file_content import Array, Content, FileFormat
from sparsact.denoise.files.raw_numbers import bytes_of
from sparsact.denoise.files.wav_file import PEAK, read_samples, write_samples

TAGS = (
    "title", "copyright", "software", "artist", "comment", "date", "album", "license",
    "tracknumber", "genre",
)  # fmt: skip
OGG_NOTES = ("coded again, which loses detail; of the tags, title, artist, … are kept",)
AIFF_CHUNKS = (b"COMM", b"SSND", b"FVER", b"NAME", b"AUTH", b"(c) ", b"ANNO", b"APPL")
OGG_PAGE = 65307  # bytes of the longest page
FOREVER = 0x7FFF0000  # sizes from here on come from a pipe
MADE_BY_CODER = (0, 1, 3)  # blocks of a FLAC: stream, padding, table of places


def read_sound(path: Path) -> Content:
    """Samples between −1 and 1, (frames,) or (frames, tracks)."""
    soundfile: Any = require("soundfile", "denoise")
    if _is_cut_off(bytes_of(path)):
        raise ValueError("it is cut off")
    with soundfile.SoundFile(path) as file:
        samples = read_samples(file)
        coding = {"format": file.format, "subtype": file.subtype, "endian": file.endian}
        rate, tags = file.samplerate, file.copy_metadata()

    def write(target: Path, blocks: list[Array]) -> None:
        tracks = 1 if samples.ndim == 1 else samples.shape[1]
        with soundfile.SoundFile(target, "w", rate, tracks, **coding) as file:
            for name, text in tags.items():
                setattr(file, name, text)
            write_samples(file, blocks[0])
        if coding["format"] == "FLAC":
            target.write_bytes(_with_blocks(path.read_bytes(), target.read_bytes()))

    notes = OGG_NOTES if coding["format"] == "OGG" else _lost_chunks(path)
    return Content([samples], 1, 1 if samples.ndim == 2 else None, PEAK, write, notes=notes)


def _lost_chunks(path: Path) -> tuple[str, ...]:
    """The chunks of an AIFF that libsndfile does not write again."""
    raw, place, lost = bytes_of(path), 12, []
    while raw[:4].tobytes() == b"FORM" and place + 8 <= len(raw):
        kind = raw[place : place + 4].tobytes()
        if kind not in AIFF_CHUNKS:
            lost.append(kind.decode("latin1").strip())
        size = int.from_bytes(raw[place + 4 : place + 8].tobytes(), "big")
        place += 8 + size + size % 2
    return (f"not kept: the chunks {', '.join(lost)}",) if lost else ()


def _is_cut_off(raw: Array) -> bool:
    """Whether an AIFF is shorter than it says, or the last page of an OGG does not end it."""
    if raw[:4].tobytes() == b"FORM":
        size = int.from_bytes(raw[4:8].tobytes(), "big") + 8
        return len(raw) < size < FOREVER
    if raw[:4].tobytes() != b"OggS":
        return False
    tail = raw[-OGG_PAGE:].tobytes()
    page = tail[tail.rfind(b"OggS") :]
    segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
    return len(page) < 27 + len(segments) + sum(segments) or not page[5] & 4


def _with_blocks(old: bytes, new: bytes) -> bytes:
    """A FLAC with the tags, pictures and other descriptions of another one."""
    (_, blocks), (stop, coded) = _blocks(old), _blocks(new)
    kept = [block for block in blocks if block[0] & 127 not in MADE_BY_CODER]
    made = [block for block in coded if block[0] & 127 == 0]
    chain = made + kept
    heads = [bytes([block[0] & 127 | 128 * (block is chain[-1])]) + block[1:] for block in chain]
    return b"fLaC" + b"".join(heads) + new[stop:]


def _blocks(raw: bytes) -> tuple[int, list[bytes]]:
    """Where the coded samples of a FLAC begin, and the blocks before them."""
    place, blocks = raw.index(b"fLaC") + 4, []  # other tags may precede it
    while True:
        size = 4 + int.from_bytes(raw[place + 1 : place + 4], "big")
        blocks.append(raw[place : place + size])
        place += size
        if blocks[-1][0] & 128:
            return place, blocks


FLAC = FileFormat(
    "FLAC",
    (".flac",),
    read_sound,
    library="soundfile",
    extra="denoise",
    keeps="rate, depth, tags, pictures, cue sheets",
)
OGG = FileFormat(
    "OGG",
    (".ogg", ".oga", ".opus"),
    read_sound,
    library="soundfile",
    extra="denoise",
    keeps=f"rate, {', '.join(TAGS)}",
    loses="detail, by its coding; other tags",
)
AIFF = FileFormat(
    "AIFF",
    (".aif", ".aiff"),
    read_sound,
    library="soundfile",
    extra="denoise",
    keeps="rate, depth, title, copyright, software, artist, comment",
    loses="other chunks",
)
