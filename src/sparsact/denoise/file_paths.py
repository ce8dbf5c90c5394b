"""Which files are read and written, and that each is written whole or not at all."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sparsact.denoise.files import SUFFIXES, FileError, kind


@dataclass(frozen=True)
class Paths:
    """The files that one input involves."""

    source: Path
    target: Path
    clean: Path | None
    picture: Path | None

    def check(self, force: bool) -> None:
        """Raise FileError if an output has a wrong suffix, or exists already."""
        if kind(self.source) != kind(self.target):
            raise FileError(
                f"{self.target} must end in {self.source.suffix}, as {self.source} does: "
                "the format is kept"
            )
        if self.picture is not None and self.picture.suffix.lower() != ".png":
            raise FileError(f"{self.picture} must end in .png, as pictures of a comparison do")
        for path in (self.target, self.picture):
            if path is not None and path.exists() and not force:
                raise FileError(f"{path} exists already; overwrite it with --force")


def plan(source: Path, target: Path, clean: Path | None, picture: Path | None) -> list[Paths]:
    """What is to be done, in the order of the names; each argument is a file or a folder.

    Raises:
        FileError: there is no such input, no file in the folder that can be read, or one file
            would be written over another that is needed.
    """
    if source.is_dir():
        todo = _plan_folder(source, target, clean, picture)
    elif source.exists():
        if target.is_dir():
            target = target / source.name
        if picture is not None and picture.is_dir():
            picture = picture / f"{source.name}.png"
        todo = [Paths(source, target, clean, picture)]
    else:
        raise FileError(f"no such file: {source}")
    _check_apart(todo)
    return todo


def _plan_folder(
    source: Path, target: Path, clean: Path | None, picture: Path | None
) -> list[Paths]:
    if target.exists() and not target.is_dir():
        raise FileError(f"{source} is a folder, so {target} must be one as well")
    others = {path.resolve() for path in (target, clean, picture) if path is not None}
    names = [
        path.relative_to(source)
        for path in sorted(source.rglob("*"))
        if path.suffix.lower() in SUFFIXES and path.is_file()
    ]
    names = [
        name
        for name in names
        if not any(part.startswith(".") for part in name.parts)  # hidden, or left by a crash
        and not any((source / folder).resolve() in others for folder in list(name.parents)[:-1])
    ]
    if not names:
        raise FileError(f"{source} holds no {', '.join(SUFFIXES)}")
    return [
        Paths(
            source / name,
            target / name,
            None if clean is None else clean / name,
            None if picture is None else picture / name.with_name(name.name + ".png"),
        )
        for name in names
    ]


def _check_apart(todo: list[Paths]) -> None:
    """Nothing may be written twice, or over what is read; only a result may replace its input."""
    read = {path.resolve() for paths in todo for path in (paths.source, paths.clean) if path}
    written: set[Path] = set()
    for paths in todo:
        for path, own in ((paths.target, {paths.source.resolve()}), (paths.picture, set[Path]())):
            if path is None:
                continue
            if path.resolve() in (read - own) | written:
                raise FileError(f"{path} would be written over another file of this run")
            written.add(path.resolve())


def write_all(writes: Sequence[tuple[Path, Callable[[Path], None]]]) -> None:
    """Write all of the files or none of them: beside their places first, then moved there."""
    moves = [
        (path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}"), path) for path, _ in writes
    ]
    for path, _ in writes:
        with _writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
    try:
        for (temporary, path), (_, write) in zip(moves, writes, strict=True):
            with _writing(path):
                write(temporary)
        for temporary, path in moves:
            with _writing(path):
                temporary.replace(path)
    finally:
        for temporary, _ in moves:
            temporary.unlink(missing_ok=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except (FileError, ImportError):
        raise
    except Exception as error:  # an encoder, too, raises whatever it stumbles over
        why = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        raise FileError(f"{path} cannot be written: {why}") from error
