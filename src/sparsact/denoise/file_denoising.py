"""Denoise files."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sparsact._common.atomic import write_files, writing
from sparsact._common.devices import usable_device, widest_float
from sparsact._common.errors import InputError
from sparsact._common.progress import Progress
from sparsact.denoise.before_after_picture import Comparison
from sparsact.denoise.encoder import encoder
from sparsact.denoise.file_blocks import Layout, hidden_by, sigma_map_of
from sparsact.denoise.file_paths import Paths
from sparsact.denoise.file_quality import (
    as_tensor,
    file_quality,
    original,
    removed_from,
    without,
)
from sparsact.denoise.file_tiles import in_tiles, is_large
from sparsact.denoise.files import FORMATS, Content, format_of, read
from sparsact.denoise.files.file_content import Array, cast, pieces
from sparsact.denoise.filtering import Border
from sparsact.denoise.learned_files import WAVELET_OPTIONS, denoise_numbers
from sparsact.denoise.noise_models import NoiseModel, NoiseName, noise_model
from sparsact.denoise.psnr_ssim import Quality
from sparsact.denoise.tiles import denoise_tiles
from sparsact.denoise.wavelet_shrinkage import denoise_wavelet

MORE_THAN_NOISE = "more than noise was removed,"


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
        sigma_map: a file with the noise of each value, instead of `sigma`.
        tile: side of the tiles of large blocks; None chooses it, 0 denoises blocks as a whole.
        method: ``"learned"`` takes the trained network; the options of wavelets then do not apply.
        fine_tune: train that network on each file before.
        device: where to compute; float64 becomes float32 where there is none.
    """

    wavelet: str = "db2"
    levels: int | None = None
    threshold: str | float = "bayes"
    shrink: str = "soft"
    sigma: float | Tensor | Literal["level"] | None = None
    cycle_spins: int | Literal["all"] = "all"
    ycbcr: bool = False
    column: str | None = None
    dims: int | None = None
    channel_dim: int | None = None
    noise: NoiseName | NoiseModel = "gaussian"
    border: Border = "mirror"
    nodata: float | None = None
    sigma_map: Path | None = None
    tile: int | None = None
    method: Literal["wavelet", "learned"] = "wavelet"
    fine_tune: bool = False
    device: str = "cpu"

    def denoise(
        self,
        x: Tensor,
        dims: int,
        channel_dim: int | None,
        ycbcr: bool,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Denoise a tensor with these options; `mask` is False where a value is missing."""
        if self.device != "cpu":
            there = usable_device(self.device)
            dtype = min(x.dtype, widest_float(there), key=lambda dtype: dtype.itemsize)
            moved = None if mask is None else mask.to(there)
            own = replace(self, device="cpu")
            return own.denoise(x.to(there, dtype), dims, channel_dim, ycbcr, moved).cpu()
        if self.method == "learned":
            return denoise_numbers(
                x, dims, channel_dim, mask, self.sigma, self.noise, self.fine_tune
            )
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

    def obstacle_to_tiles(self, absent: Array | None) -> str | None:
        """What stands against tiles, in words; None if nothing does."""
        obstacles = {
            "missing values": absent is not None,
            f"noise={self.noise}": self.noise != "gaussian",
            "map or levels of sigma=": isinstance(self.sigma, (str, Tensor)),
            f"method={self.method}": self.method != "wavelet",
            f"threshold={self.threshold}": self.threshold in ("sure", "fdr"),
            f"border={self.border}": self.border != "mirror",
            "ycbcr=": self.ycbcr,
            "cycle_spins= other than all": self.cycle_spins != "all",
            f"device={self.device}": self.device != "cpu",
        }
        return next((name for name, stands in obstacles.items() if stands), None)

    def denoise_tiled(self, noisy: Array, out: Array, dims: int, progress: Progress) -> None:
        """Denoise the last dims of an array tile by tile, with these options."""
        assert not isinstance(self.sigma, (str, Tensor))
        denoise_tiles(
            noisy,
            out,
            self.wavelet,
            self.levels,
            self.threshold,
            self.shrink,
            self.sigma,
            dims,
            tile=self.tile or None,
            progress=progress,
        )

    def check(self) -> None:
        """Raise InputError if no file could be denoised with these options."""
        noise_model(self.noise, self.sigma)
        known = replace(self, levels=None, noise="gaussian", fine_tune=False)
        if self.method == "wavelet":
            known.denoise(torch.zeros(512), 1, None, ycbcr=False)
        else:
            known.denoise(torch.zeros(16, 16), 2, None, ycbcr=False)
        self._check_method()

    def _check_method(self) -> None:
        for name in WAVELET_OPTIONS if self.method == "learned" else ("fine_tune",):
            if getattr(self, name) != getattr(FileOptions, name):
                other = "wavelet" if self.method == "learned" else "learned"
                raise InputError(f"{name}= is for method={other}")


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
        picture: the picture that compares both, or None.
    """

    target: Path
    before: Quality | None
    after: Quality | None
    missing: int = 0
    unchanged: bool = False
    notes: tuple[str, ...] = ()
    picture: Path | None = None


def denoise_file(
    paths: Paths, options: FileOptions, force: bool = False, progress: Progress | None = None
) -> Denoised:
    """Denoise one file; nothing is written unless all of it succeeds.

    Args:
        paths: the files to read and write.
        options: how to denoise.
        force: overwrite outputs that exist.
        progress: called with the tiles of a large file that are done.

    Raises:
        InputError: a file or an option cannot be used.
        OutputError: a file cannot be written.
    """
    paths.check(force)
    _check_options(paths.source, options)
    content = _content(paths, options)
    clean = None if paths.clean is None else original(paths.clean, content, options.column)
    notes = list(content.notes)
    results = _results(content, paths, options, notes, progress)
    before = after = None
    if clean is not None:
        before = file_quality(content.blocks, clean, content)
        after = file_quality(results, clean, content)
    writers = {paths.target: encoder(paths.target, partial(content.save, clean=results))}
    absent = [content.absent(index) for index in range(len(results))]
    is_white = options.noise == "gaussian" and options.sigma_map is None
    removed = removed_from(
        content, results, options.sigma if is_white else "level", options.wavelet
    )
    alarms = [known.excess for known in removed if known and known.excess is not None]
    if alarms:
        notes.append(f"{MORE_THAN_NOISE} at {alarms[0]:.3f} cycles per sample")
    if paths.picture is not None:
        picture = Comparison(
            without(absent[0], content.blocks[0]),
            without(absent[0], results[0]),
            (_title("noisy", before), _title("denoised", after)),
            content.dims,
            content.channel_dim,
            removed[0],
        )
        writers[paths.picture] = encoder(paths.picture, picture.save)
    for path in writers:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
    write_files(writers)
    missing = sum(int(places.sum()) for places in absent if places is not None)
    unchanged = all(map(_equal, results, content.blocks))
    return Denoised(
        paths.target, before, after, missing, unchanged, tuple(dict.fromkeys(notes)), paths.picture
    )


def _content(paths: Paths, options: FileOptions) -> Content:
    """The numbers of the noisy file, with their dims and mask."""
    source, mask = paths.source, paths.mask
    content = read(source, options.column, options.nodata, masked=mask is not None)
    content = Layout(options.dims, options.channel_dim).arrange(content, source)
    if mask is not None:
        content = replace(content, hidden=hidden_by(mask, content))
        content.check_finite(source)
    return content


def _check_options(path: Path, options: FileOptions) -> None:
    """Raise InputError for an option that other formats take, not that of this file."""
    own = format_of(path).options
    for name in ("column", "dims", "channel_dim"):
        if getattr(options, name) is not None and name not in own:
            takers = ", ".join(known.name for known in FORMATS if name in known.options)
            raise InputError(f"{name}= is for {takers} files, and {path} is none")


def _results(
    content: Content,
    paths: Paths,
    options: FileOptions,
    notes: list[str],
    progress: Progress | None,
) -> list[Array]:
    """The denoised blocks; `notes` gets what is to be said of them."""
    maps = None if options.sigma_map is None else sigma_map_of(options.sigma_map, content)
    results = []
    for index, block in enumerate(content.blocks):
        own = options if maps is None else replace(options, sigma=torch.tensor(maps[index]))
        absent = content.absent(index)
        try:
            if is_large(block, content, options.tile):
                obstacle = own.obstacle_to_tiles(absent)
                if obstacle is None:
                    with writing(paths.target):  # the result needs room on a disk
                        results.append(in_tiles(block, content, own.denoise_tiled, progress))
                    continue
                notes.append(f"denoised as a whole in memory, as tiles take no {obstacle}")
            results.append(_denoise(block, content, own, absent))
        except InputError as error:
            raise InputError(f"{paths.source}: {error}") from error
    return results


def _denoise(block: Array, content: Content, options: FileOptions, absent: Array | None) -> Array:
    has_colours = content.channel_dim is not None and block.shape[content.channel_dim] == 3
    ycbcr = options.ycbcr and content.dims == 2 and has_colours
    mask = None if absent is None else torch.from_numpy(~absent)
    result = options.denoise(as_tensor(block), content.dims, content.channel_dim, ycbcr, mask)
    array: Array = result.numpy()
    return array


def _equal(new: Array, old: Array) -> bool:
    return all(
        np.array_equal(cast(a, old.dtype), b, equal_nan=old.dtype.kind == "f")
        for a, b in zip(pieces(new), pieces(old), strict=True)
    )


def _title(text: str, measured: Quality | None) -> str:
    return text if measured is None else f"{text}: {measured}"
