"""The files that denoising reads and writes."""

from dataclasses import dataclass
from pathlib import Path

from sparsact._common.errors import InputError, MissingInputError
from sparsact.denoise.files import SUFFIXES, format_of, suffix_of


@dataclass(frozen=True)
class Paths:
    """The files of one input.

    Attributes:
        source: the noisy file.
        target: the result.
        clean: the clean original, or None.
        picture: a picture of the noisy file and the result, or None.
        mask: a file that is 0 where a value is missing, or None.
    """

    source: Path
    target: Path
    clean: Path | None = None
    picture: Path | None = None
    mask: Path | None = None

    def check(self, force: bool) -> None:
        """Raise InputError if an output has a wrong suffix, or exists and `force` is not set."""
        if suffix_of(self.target) not in format_of(self.source).suffixes:
            raise InputError(
                f"{self.target} must end in {self.source.suffix}, as {self.source} does: "
                "the format is kept"
            )
        if self.picture is not None and self.picture.suffix.lower() != ".png":
            raise InputError(f"{self.picture} must end in .png: pictures are PNG files")
        for path in (self.target, self.picture):
            if path is not None and path.exists() and not force:
                raise InputError(f"{path} exists already; overwrite it with force=True")


def paths_of(
    source: Path,
    target: Path,
    clean: Path | None = None,
    picture: Path | None = None,
    mask: Path | None = None,
) -> list[Paths]:
    """The files of each input, sorted by name; each argument is a file or a folder.

    A mask that is a file serves all inputs.

    Raises:
        MissingInputError: there is no such input.
        InputError: the folder holds no file that can be read, or a file of this run would be
            overwritten by another.
    """
    if source.is_dir():
        inputs = _paths_of_folder(source, target, clean, picture, mask)
    elif source.exists():
        if target.is_dir():
            target = target / source.name
        if picture is not None and picture.is_dir():
            picture = picture / f"{source.name}.png"
        inputs = [Paths(source, target, clean, picture, _below(mask, Path(source.name)))]
    else:
        raise MissingInputError(f"no such file: {source}")
    _check_apart(inputs)
    return inputs


def _paths_of_folder(
    source: Path, target: Path, clean: Path | None, picture: Path | None, mask: Path | None
) -> list[Paths]:
    if target.exists() and not target.is_dir():
        raise InputError(f"{source} is a folder, so {target} must be one as well")
    excluded = {path.resolve() for path in (target, clean, picture, mask) if path is not None}
    names = [
        path.relative_to(source)
        for path in sorted(source.rglob("*"))
        if suffix_of(path) and path.is_file()
    ]
    names = [
        name
        for name in names
        if not any(part.startswith(".") for part in name.parts)
        and (mask is None or (source / name).resolve() != mask.resolve())
        and not any((source / folder).resolve() in excluded for folder in list(name.parents)[:-1])
    ]
    if not names:
        raise InputError(f"{source} holds no {', '.join(SUFFIXES)}")
    return [
        Paths(
            source / name,
            target / name,
            None if clean is None else clean / name,
            None if picture is None else picture / name.with_name(name.name + ".png"),
            _below(mask, name),
        )
        for name in names
    ]


def _below(folder: Path | None, name: Path) -> Path | None:
    """The file of this name in a folder; a file is returned as it is."""
    return folder / name if folder is not None and folder.is_dir() else folder


def _check_apart(inputs: list[Paths]) -> None:
    """Raise InputError if a file is written twice or over another input.

    Only a result may replace its own input.
    """
    read = {
        path.resolve()
        for paths in inputs
        for path in (paths.source, paths.clean, paths.mask)
        if path
    }
    written: set[Path] = set()
    for paths in inputs:
        for path, own in ((paths.target, {paths.source.resolve()}), (paths.picture, set[Path]())):
            if path is None:
                continue
            if path.resolve() in (read - own) | written:
                raise InputError(f"{path} would be written over another file of this run")
            written.add(path.resolve())
