"""Denoise files."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sparsact._common.atomic import write_files, writing
from sparsact._common.errors import InputError, OutputError, SparsactError
from sparsact._common.progress import Progress, ProgressCounter
from sparsact.denoise.before_after_picture import save_before_after
from sparsact.denoise.file_paths import Paths
from sparsact.denoise.files import FORMATS, Content, format_of, read
from sparsact.denoise.files.file_content import Array, cast
from sparsact.denoise.filtering import Border
from sparsact.denoise.noise_models import NoiseModel, NoiseName, noise_model
from sparsact.denoise.psnr_ssim import Quality, mean_quality, quality
from sparsact.denoise.wavelet_shrinkage import denoise_wavelet


@dataclass(frozen=True)
class FileOptions:
    """How the numbers of files are denoised.

    Attributes:
        wavelet: name of a discrete wavelet of PyWavelets.
        levels: depth of the transform; None: by the size of each dim.
        threshold: name of a rule, or λ in the file's units.
        shrink: name of a shrinkage.
        sigma: the noise in the file's units; None estimates it, ``"level"`` for each level.
        cycle_spins: number of shifts per dim to average over, or ``"all"``.
        ycbcr: denoise RGB images as Y, Cb, Cr; other files are not affected.
        column: of a table, or the array of an NPZ.
        dims: the number of dims to transform, of arrays and stacks.
        channel_dim: of an NPY or NPZ, the dim of the colours or tracks.
        noise: as in `denoise_wavelet`.
        border: as in `denoise_wavelet`.
        nodata: the number that stands for a missing value, instead of the file's own.
    """

    wavelet: str = "db2"
    levels: int | None = None
    threshold: str | float = "bayes"
    shrink: str = "soft"
    sigma: float | Literal["level"] | None = None
    cycle_spins: int | Literal["all"] = "all"
    ycbcr: bool = False
    column: str | None = None
    dims: int | None = None
    channel_dim: int | None = None
    noise: NoiseName | NoiseModel = "gaussian"
    border: Border = "mirror"
    nodata: float | None = None

    def denoise(
        self,
        x: Tensor,
        dims: int,
        channel_dim: int | None,
        ycbcr: bool,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Denoise a tensor with these options; `mask` is False where a value is missing."""
        return denoise_wavelet(
            x,
            self.wavelet,
            self.levels,
            self.threshold,
            self.shrink,
            self.sigma,
            self.cycle_spins,
            dims,
            channel_dim=channel_dim,
            ycbcr=ycbcr,
            noise=self.noise,
            mask=mask,
            border=self.border,
        )

    def check(self) -> None:
        """Raise InputError if no file could be denoised with these options."""
        noise_model(self.noise, self.sigma)
        known = replace(self, levels=None, noise="gaussian")
        known.denoise(torch.zeros(512), 1, None, ycbcr=False)


@dataclass(frozen=True)
class Denoised:
    """A denoised file.

    Attributes:
        target: the file.
        before: the quality of the noisy file, if there is a clean original.
        after: the quality of the result, if there is a clean original.
        missing: the number of missing values, which were kept.
        unchanged: whether the result equals the input, as without noise.
        notes: what of the file was not kept, or changed as well.
    """

    target: Path
    before: Quality | None
    after: Quality | None
    missing: int = 0
    unchanged: bool = False
    notes: tuple[str, ...] = ()


def denoise_file(paths: Paths, options: FileOptions, force: bool = False) -> Denoised:
    """Denoise one file; nothing is written unless all of it succeeds.

    Args:
        paths: the files to read and write.
        options: how to denoise.
        force: overwrite outputs that exist.

    Raises:
        InputError: a file or an option cannot be used.
        OutputError: a file cannot be written.
    """
    paths.check(force)
    _check_options(paths.source, options)
    content = _arranged(_read(paths.source, options), paths.source, options)
    clean = None if paths.clean is None else _original(paths.clean, content, options)
    results = [_denoise(block, content, options, paths.source) for block in content.blocks]
    before = after = None
    if clean is not None:
        before = _quality(content.blocks, clean, content)
        after = _quality(results, clean, content)
    writers = {paths.target: _encoder(paths.target, partial(content.save, clean=results))}
    missing = [content.missing(block) for block in content.blocks]
    if paths.picture is not None:
        draw = partial(
            save_before_after,
            noisy=_without(missing[0], content.blocks[0]),
            clean=_without(missing[0], results[0]),
            titles=(_title("noisy", before), _title("denoised", after)),
            dims=content.dims,
            channel_dim=content.channel_dim,
        )
        writers[paths.picture] = _encoder(paths.picture, draw)
    for path in writers:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
    write_files(writers)
    unchanged = all(
        np.array_equal(cast(new, old.dtype), old, equal_nan=old.dtype.kind == "f")
        for new, old in zip(results, content.blocks, strict=True)
    )
    count = sum(map(int, map(np.sum, missing)))
    return Denoised(paths.target, before, after, count, unchanged, content.notes)


def denoise_files(
    inputs: Iterable[Paths],
    options: FileOptions,
    progress: Progress | None = None,
    on_error: Callable[[SparsactError], None] | None = None,
    force: bool = False,
) -> list[Denoised]:
    """Denoise several files.

    Args:
        inputs: the files to read and write, as :func:`paths_of` returns them.
        options: how to denoise.
        progress: called with the number of files done, their total, and a name.
        on_error: called with the error of a file, after which the next file follows; by default
            the error is raised.
        force: overwrite outputs that exist.

    Raises:
        InputError: an option cannot be used, or, without `on_error`, a file.
        OutputError: without `on_error`: a file cannot be written.
    """
    options.check()
    inputs = list(inputs)
    counter = ProgressCounter(len(inputs), progress)
    results = []
    for paths in inputs:
        counter.label = paths.source.name
        counter.advance(0)
        try:
            results.append(denoise_file(paths, options, force))
        except SparsactError as error:
            if on_error is None:
                raise
            on_error(error)
        counter.advance()
    return results


def _check_options(path: Path, options: FileOptions) -> None:
    """Raise InputError for an option that other formats take, not that of this file."""
    own = format_of(path).options
    for name in ("column", "dims", "channel_dim"):
        if getattr(options, name) is not None and name not in own:
            takers = ", ".join(known.name for known in FORMATS if name in known.options)
            raise InputError(f"{name}= is for {takers} files, and {path} is none")


def _arranged(content: Content, path: Path, options: FileOptions) -> Content:
    """Set the dims that are transformed, which a file often does not say."""
    shape, channel_dim, dims = content.blocks[0].shape, options.channel_dim, options.dims
    if "channel_dim" in format_of(path).options:
        if dims is None and channel_dim is None and len(shape) > 1 and shape[-1] <= 4:
            raise InputError(
                f"{path} has the shape {shape}: does the last dim hold colours or tracks? If so, "
                "set channel_dim=-1 (for signals also dims=1), otherwise set dims="
            )
        if channel_dim is not None and not -len(shape) <= channel_dim < len(shape):
            raise InputError(f"channel_dim={channel_dim} does not exist in {path} of shape {shape}")
        content = replace(content, channel_dim=channel_dim)
    if dims is None:
        return content
    is_page = len(shape) - (content.channel_dim is not None) == content.dims == 2
    if is_page and dims == 3 and "channel_dim" not in format_of(path).options:
        return content.volume(path)
    return replace(content, dims=dims)


def _read(path: Path, options: FileOptions) -> Content:
    return read(path, options.column, options.nodata)


def _denoise(block: Array, content: Content, options: FileOptions, path: Path) -> Array:
    has_colours = content.channel_dim is not None and block.shape[content.channel_dim] == 3
    ycbcr = options.ycbcr and content.dims == 2 and has_colours
    missing = content.missing(block)
    mask = torch.from_numpy(~missing) if missing.any() else None
    try:
        result = options.denoise(_tensor(block), content.dims, content.channel_dim, ycbcr, mask)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    array: Array = result.numpy()
    return array


def _without(missing: Array, block: Array) -> Array:
    """A block for pictures and measures, whose missing values are the mean of the others."""
    if not missing.any():
        return block
    level = 0.0 if missing.all() else block[~missing].mean()
    return np.where(missing, level, block)


def _tensor(block: Array) -> Tensor:
    """A tensor in float32 if that represents the dtype exactly, else in float64."""
    exact = np.can_cast(block.dtype, np.float32)
    return torch.from_numpy(block.astype(np.float32 if exact else np.float64))


def _original(path: Path, noisy: Content, options: FileOptions) -> Content:
    clean = _read(path, options)
    shapes = [block.shape for block in clean.blocks], [block.shape for block in noisy.blocks]
    if shapes[0] != shapes[1]:
        raise InputError(f"{path} has the shape {shapes[0]}, the noisy file {shapes[1]}")
    if clean.peak != noisy.peak:
        raise InputError(
            f"{path} holds {clean.units}, the noisy file {noisy.units}; no quality can be "
            "measured between them"
        )
    return clean


def _quality(blocks: list[Array], clean: Content, content: Content) -> Quality:
    pages = []
    for block, noisy, original in zip(blocks, content.blocks, clean.blocks, strict=True):
        missing = content.missing(noisy) | clean.missing(original)
        known = _tensor(_without(missing, original))
        values = torch.where(torch.from_numpy(missing), known, _tensor(block))
        page = quality(values, known, content.dims, content.channel_dim, content.peak)
        share = max(1, missing.size - int(missing.sum())) / missing.size
        pages.append(replace(page, psnr=page.psnr + 10 * math.log10(share)))
    return mean_quality(pages)


def _title(text: str, measured: Quality | None) -> str:
    return text if measured is None else f"{text}: {measured}"


def _encoder(path: Path, write: Callable[[Path], Any]) -> Callable[[Path], None]:
    """`write` with an OutputError for whatever an encoder raises."""

    def encode(unfinished: Path) -> None:
        with _encoding(path):
            write(unfinished)

    return encode


@contextmanager
def _encoding(path: Path) -> Iterator[None]:
    try:
        yield
    except (SparsactError, OSError):
        raise
    except Exception as error:  # encoders raise all kinds of exceptions
        reason = str(error) or type(error).__name__
        raise OutputError(f"{path} could not be written ({reason})") from error
