"""The versions of other packages that the tests have run on: one declaration, and a warning."""

import functools
import importlib.metadata
import re
import warnings

TESTED = {
    "torch": "2.15",
    "transformers": "5.24",
    "lightning": "2.6",
}
"""Package → the newest minor version tested. `docs/versions.md` shows what ran on which."""


class UntestedVersionWarning(UserWarning):
    """A package is newer than the newest version that the tests have run on."""


@functools.cache
def warn_if_untested(package: str) -> None:
    """Warn, once in a process, where a package has a newer minor version than the newest tested."""
    if package not in TESTED:
        return
    try:
        installed = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return
    newest = TESTED[package]
    if _minor(installed) > _minor(newest):
        warnings.warn(
            f"{package} {installed} is newer than {newest}, the newest version that sparsact was "
            "tested with",
            UntestedVersionWarning,
            stacklevel=3,
        )


def _minor(version: str) -> tuple[int, ...]:
    """The first two numbers of a version."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
