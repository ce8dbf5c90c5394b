"""Denoising files: one, or all of a folder."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor

from sparsact._common.progress import Progress
from sparsact.denoise.files import Content, FileError, kind, read
from sparsact.denoise.files.content import Array
from sparsact.denoise.paths import Paths, plan, write_all
from sparsact.denoise.picture import save_comparison
from sparsact.denoise.quality import Quality, mean_quality, quality
from sparsact.denoise.shrinkage import denoise_wavelet


@dataclass(frozen=True)
class DenoiseConfig:
    """Remove noise from images, sounds and signals by wavelet shrinkage."""

    input: tyro.conf.Positional[str]
    """A PNG, JPEG, TIFF, WAV, NPY or CSV, or a folder of them."""
    output: tyro.conf.Positional[str]
    """Where the result goes: a file of the same format, or a folder."""
    sigma: str | None = None
    """Standard deviation of the noise in the file's units (0–255 for 8 bits, −1 to 1 for sound);
    level: estimated for each level (coloured noise); by default estimated once."""
    wavelet: str = "db2"
    """A discrete wavelet of PyWavelets."""
    levels: int | None = None
    """Depth of the transform; by default 3 less than the deepest."""
    threshold: str = "bayes"
    """bayes, visu, sure, fdr, or λ in the file's units."""
    shrink: str = "soft"
    """soft, hard, firm, garrote, scad or half."""
    spins: str = "all"
    """Shifts per dim over which the result is averaged, or all."""
    ycbcr: bool = False
    """Denoise RGB as brightness and two colour differences."""
    column: str | None = None
    """Column of a CSV: its name, or its number from 1 if there is no header."""
    dims: int | None = None
    """Of an NPY: 1 for signals, 2 for images, 3 for volumes; the last dims, others are a batch."""
    channel_dim: int | None = None
    """Of an NPY: dim of the colours or tracks, which `dims` leaves out."""
    clean: str | None = None
    """The clean original, or a folder of them: PSNR and SSIM are printed."""
    compare: str | None = None
    """Write a picture here, or one per file into this folder: noisy, result, removed noise."""
    force: bool = False
    """Overwrite outputs that exist."""


@dataclass(frozen=True)
class Done:
    """A denoised file, with the quality before and after if there is a clean original."""

    target: Path
    before: Quality | None
    after: Quality | None


def check(config: DenoiseConfig) -> None:
    """Raise FileError for flags that no file could be denoised with."""
    try:
        denoise_wavelet(torch.zeros(512), **{**_options(config), "levels": None}, dims=1)
    except ValueError as error:
        raise FileError(str(error)) from error


def denoise_file(paths: Paths, config: DenoiseConfig) -> Done:
    """Denoise one file; nothing is written unless all of it succeeds.

    Raises:
        FileError: what is wrong with which file.
    """
    paths.check(config.force)
    _check_flags(paths.source, config)
    content = _arranged(read(paths.source, config.column), paths.source, config)
    clean = None if paths.clean is None else _original(paths.clean, content, config)
    results = [_denoise(block, content, config, paths.source) for block in content.blocks]
    before = after = None
    if clean is not None:
        before = _quality(content.blocks, clean, content)
        after = _quality(results, clean, content)
    writes = [(paths.target, partial(content.save, clean=results))]
    if paths.picture is not None:
        titles = (_title("noisy", before), _title("denoised", after))
        draw = partial(
            save_comparison,
            noisy=content.blocks[0],
            clean=results[0],
            titles=titles,
            dims=content.dims,
            channel_dim=content.channel_dim,
        )
        writes.append((paths.picture, draw))
    write_all(writes)
    return Done(paths.target, before, after)


def run(
    config: DenoiseConfig,
    progress: Progress,
    failed: Callable[[FileError], None],
) -> list[Done]:
    """Denoise all files; of a folder, one that fails is reported and the others go on.

    Raises:
        FileError: a flag or the input is wrong, or the only file fails.
    """
    check(config)
    clean = None if config.clean is None else Path(config.clean)
    picture = None if config.compare is None else Path(config.compare)
    todo = plan(Path(config.input), Path(config.output), clean, picture)
    done = []
    for number, paths in enumerate(todo):
        progress(number, len(todo), paths.source.name)
        try:
            done.append(denoise_file(paths, config))
        except FileError as error:
            if not Path(config.input).is_dir():
                raise
            failed(error)
    progress(len(todo), len(todo), "")
    return done


def _check_flags(path: Path, config: DenoiseConfig) -> None:
    for flag, value, which in (
        ("--column", config.column, "CSV"),
        ("--dims", config.dims, "NPY"),
        ("--channel-dim", config.channel_dim, "NPY"),
    ):
        if value is not None and kind(path) != which:
            raise FileError(f"{flag} is for {which} files, and {path} is none")


def _arranged(content: Content, path: Path, config: DenoiseConfig) -> Content:
    """What the dims of an NPY are, which the file does not say."""
    if kind(path) != "NPY":
        return content
    shape, channel_dim = content.blocks[0].shape, config.channel_dim
    if config.dims is None and channel_dim is None and len(shape) > 1 and shape[-1] <= 4:
        raise FileError(
            f"{path} has the shape {shape}; if the last dim holds colours or tracks, say so with "
            "--channel-dim -1 (of signals also --dims 1), if not, with --dims"
        )
    if channel_dim is not None and not -len(shape) <= channel_dim < len(shape):
        raise FileError(f"--channel-dim {channel_dim} does not exist in {path} of shape {shape}")
    dims = content.dims if config.dims is None else config.dims
    return replace(content, dims=dims, channel_dim=channel_dim)


def _denoise(block: Array, content: Content, config: DenoiseConfig, path: Path) -> Array:
    options = _options(config)
    colours = content.channel_dim is not None and block.shape[content.channel_dim] == 3
    if config.ycbcr and content.dims == 2 and colours:
        options["ycbcr"] = True
    try:
        result = denoise_wavelet(
            _tensor(block), **options, dims=content.dims, channel_dim=content.channel_dim
        )
    except ValueError as error:
        raise FileError(f"{path}: {error}") from error
    array: Array = result.numpy()
    return array


def _options(config: DenoiseConfig) -> dict[str, Any]:
    """The flags as `denoise_wavelet` takes them."""
    sigma: float | str | None = config.sigma
    if sigma not in (None, "level"):
        sigma = _number("--sigma", config.sigma, "a positive number or level")
        if sigma == 0:
            raise FileError("--sigma takes a positive number or level, got 0")
    threshold: float | str = config.threshold
    if not config.threshold.isalpha():
        threshold = _number("--threshold", config.threshold, "a rule or a number")
    spins: int | str = config.spins
    if spins != "all":
        if not config.spins.isdecimal() or int(config.spins) < 1:
            raise FileError(f"--spins takes a positive number or all, got {config.spins}")
        spins = int(config.spins)
    return {
        "wavelet": config.wavelet,
        "levels": config.levels,
        "threshold": threshold,
        "shrink": config.shrink,
        "sigma": sigma,
        "cycle_spins": spins,
    }


def _number(flag: str, text: str | None, expected: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise FileError(f"{flag} takes {expected}, got {text}")
    return value


def _tensor(block: Array) -> Tensor:
    """In float32 where that holds the values exactly, else in float64."""
    exact = np.can_cast(block.dtype, np.float32)
    return torch.from_numpy(block.astype(np.float32 if exact else np.float64))


def _original(path: Path, noisy: Content, config: DenoiseConfig) -> Content:
    clean = read(path, config.column)
    shapes = [block.shape for block in clean.blocks], [block.shape for block in noisy.blocks]
    if shapes[0] != shapes[1]:
        raise FileError(f"{path} has the shape {shapes[0]}, the noisy file {shapes[1]}")
    if clean.peak != noisy.peak:
        raise FileError(
            f"{path} holds {clean.units}, the noisy file {noisy.units}; no quality can be "
            "measured between them"
        )
    return clean


def _quality(blocks: list[Array], clean: Content, content: Content) -> Quality:
    return mean_quality(
        [
            quality(
                _tensor(block), _tensor(original), content.dims, content.channel_dim, content.peak
            )
            for block, original in zip(blocks, clean.blocks, strict=True)
        ]
    )


def _title(what: str, found: Quality | None) -> str:
    return what if found is None else f"{what}: {found}"
