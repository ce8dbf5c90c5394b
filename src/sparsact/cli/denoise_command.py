"""``sparsact denoise``."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.progress import MofNCompleteColumn

from sparsact._common.errors import InputError, SparsactError
from sparsact.cli.error_lines import error_line, print_error, warnings_on_one_line
from sparsact.cli.progress_bar import progress
from sparsact.cli.tables import say
from sparsact.denoise.file_denoising import Denoised, FileOptions
from sparsact.denoise.file_paths import Paths, paths_of
from sparsact.denoise.files import FORMATS, suffix_of
from sparsact.denoise.filtering import Border
from sparsact.denoise.folder_page import save_folder_page
from sparsact.denoise.many_files import denoise_files
from sparsact.denoise.noise_models import NoiseModel, NoiseName, noise_model
from sparsact.denoise.poisson_noise import PoissonNoise
from sparsact.denoise.shrinkages import SHRINKS
from sparsact.denoise.threshold_rules import RULES

SOME_FAILED = 1


@dataclass(frozen=True)
class DenoiseFlags:
    """Remove noise from images, sounds and signals, by wavelets or a trained network."""

    input: tyro.conf.Positional[
        Annotated[
            str,
            tyro.conf.arg(
                metavar="INPUT",
                help=f"A file ({', '.join(known.name for known in FORMATS)}) or a folder of them.",
            ),
        ]
    ]
    output: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="OUTPUT")]]
    """The result: a file of the same format, or a folder."""
    sigma: str | None = None
    """Standard deviation of the noise in the file's units (0–255 for 8 bits,
    −1 to 1 for sound); level estimates it for each level (coloured noise); or a
    file with the noise of each value. By default it is estimated once."""
    wavelet: str = "db2"
    """A discrete wavelet of PyWavelets."""
    levels: int | None = None
    """Depth of the transform; by default it follows from the size of each dim."""
    threshold: Annotated[
        str, tyro.conf.arg(help=f"{', '.join(RULES)}, or λ in the file's units.")
    ] = "bayes"
    shrink: Annotated[str, tyro.conf.arg(help=f"{', '.join(SHRINKS)}.")] = "soft"
    spins: str = "all"
    """The result is averaged over this many shifts per dim, or over all."""
    ycbcr: bool = False
    """Denoise RGB as brightness and two colour differences."""
    column: str | None = None
    """Column of a table: its name, or its number from 1 if there is no header;
    or the array of an NPZ."""
    dims: int | None = None
    """Number of dims to transform: 1 for signals, 2 for images, 3 for volumes and
    stacks. Of an array they are the last dims; the other dims are a batch."""
    channel_dim: int | None = None
    """Dim of an NPY or NPZ that holds colours or tracks; it is not counted in dims."""
    noise: NoiseName = "gaussian"
    """The kind of noise. That of photons (poisson), magnitudes of MRI (rician) and
    speckle (multiplicative) depends on the brightness."""
    gain: float | None = None
    """Of poisson noise: units per photon; by default it is estimated."""
    offset: float | None = None
    """Of poisson noise: the value without light."""
    read_noise: float | None = None
    """Of poisson noise: standard deviation of its Gaussian part."""
    nodata: float | None = None
    """The number that stands for a missing value; NaN and the nodata tag of a
    GeoTIFF count as missing without it. Missing values are kept."""
    mask: str | None = None
    """A file that is 0 where a value is missing, or a folder of them. Missing
    values are kept."""
    border: Border = "mirror"
    """How data continue beyond their border."""
    method: Literal["wavelet", "learned"] = "wavelet"
    """Wavelets, or for images the network of this package, trained on photographs."""
    fine_tune: bool = False
    """Train the network on each noisy file before, without clean data (a minute)."""
    device: str = "cpu"
    """Where to compute, such as cuda."""
    clean: str | None = None
    """The clean original, or a folder of them: PSNR and SSIM are printed."""
    compare: str | None = None
    """Picture of the noisy input, the result and the removed noise: a .png to
    write, or a folder for one picture per file and index.html with all of them."""
    tile: int | None = None
    """Side of the tiles into which large data are cut; by default those of more
    than 16 million values (sounds: 4 million) are. 0: never."""
    workers: int = 1
    """Number of processes for a folder."""
    resume: bool = False
    """Go on with a folder after an interruption: leave out what is done."""
    force: bool = False
    """Overwrite outputs that exist."""


def denoise(config: tyro.conf.OmitArgPrefixes[DenoiseFlags]) -> int:
    """Remove noise from images, sounds and signals, by wavelets or a trained network."""
    console = Console()
    failures: list[SparsactError] = []

    def on_error(error: SparsactError) -> None:
        failures.append(error)
        print_error(error_line(error, denoise))

    options = _options(config)
    source, target = Path(config.input), Path(config.output)
    clean = None if config.clean is None else Path(config.clean)
    picture = None if config.compare is None else Path(config.compare)
    mask = None if config.mask is None else Path(config.mask)
    inputs = paths_of(source, target, clean, picture, mask)
    is_folder = source.is_dir()
    if config.resume and not is_folder:
        raise InputError(f"resume= is for folders, and {source} is none")
    with warnings_on_one_line(), progress(console, MofNCompleteColumn()) as update:
        results = denoise_files(
            inputs,
            options,
            update,
            on_error if is_folder else None,
            config.force,
            workers=config.workers,
            record=_record_of(target) if is_folder else None,
            resume=config.resume,
        )
    for result in results:
        say(console, _text(result))
    if is_folder and picture is not None:
        _write_page(picture, inputs, results)
    if failures:
        say(Console(stderr=True), f"{len(failures)} of {len(inputs)} files failed")
    return SOME_FAILED if failures else 0


def _write_page(folder: Path, inputs: list[Paths], results: list[Denoised]) -> None:
    """Write the page of a folder, also with pictures of an earlier run that was resumed."""
    lines = {result.picture: _text(result) for result in results}
    pictures = [paths.picture for paths in inputs if paths.picture and paths.picture.exists()]
    save_folder_page(folder, {path: lines.get(path, "") for path in pictures})


def _record_of(folder: Path) -> Path:
    """Where a run notes what is done: beside its output folder."""
    folder = folder.resolve()
    return folder.with_name(f"{folder.name}.unfinished")


def _options(config: DenoiseFlags) -> FileOptions:
    threshold: str | float = config.threshold
    if not config.threshold.isalpha():
        threshold = _number("--threshold", config.threshold, "a rule or a number")
    sigma_map = _file(config.sigma)
    return FileOptions(
        wavelet=config.wavelet,
        levels=config.levels,
        threshold=threshold,
        shrink=config.shrink,
        sigma=None if sigma_map else _sigma(config.sigma),
        sigma_map=sigma_map,
        tile=config.tile,
        cycle_spins=_spins(config.spins),
        ycbcr=config.ycbcr,
        column=config.column,
        dims=config.dims,
        channel_dim=config.channel_dim,
        noise=_noise(config),
        border=config.border,
        nodata=config.nodata,
        method=config.method,
        fine_tune=config.fine_tune,
        device=config.device,
    )


def _noise(config: DenoiseFlags) -> NoiseName | NoiseModel:
    """The name of the noise, or photon noise with the values that are set."""
    known = {
        name: getattr(config, name)
        for name in ("gain", "offset", "read_noise")
        if getattr(config, name) is not None
    }
    if not known:
        return config.noise
    model = noise_model(config.noise, None)
    if not isinstance(model, PoissonNoise):
        raise InputError(
            f"{next(iter(known))}= is for noise=poisson and poisson-gaussian, not {config.noise}"
        )
    return replace(model, **known)


def _sigma(text: str | None) -> float | Literal["level"] | None:
    if text is None:
        return None
    if text == "level":
        return "level"
    expected = "a positive number or level"
    sigma = _number("--sigma", text, expected)
    if sigma == 0:
        raise InputError(f"--sigma takes {expected}, got 0")
    return sigma


def _file(text: str | None) -> Path | None:
    """The path of a file of numbers, unless the text is a number or a word."""
    path = None if text is None else Path(text)
    return path if path is not None and path.suffix and suffix_of(path) else None


def _spins(text: str) -> int | Literal["all"]:
    if text == "all":
        return "all"
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"--spins takes a positive number or all, got {text}")
    return int(text)


def _number(flag: str, text: str, expected: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise InputError(f"{flag} takes {expected}, got {text}")
    return value


def _text(result: Denoised) -> str:
    notes = []
    if result.before is not None and result.after is not None:
        notes.append(f"{result.before} → {result.after}")
    if result.missing:
        notes.append(f"{result.missing} missing values kept")
    if result.unchanged:
        notes.append("no noise found, unchanged")
    notes.extend(result.notes)
    return f"{result.target}: {'; '.join(notes)}" if notes else str(result.target)
