"""Deprecation: a public name warns for at least one minor release before it is removed."""

import functools
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


@functools.cache
def warn_deprecated(name: str, *, removed_in: str, use: str, stacklevel: int = 3) -> None:
    """Warn that `name` will be removed; the same warning is given once per process.

    Args:
        name: the public name, as users write it: ``"sparsact.swap_all"``.
        removed_in: the version that removes it, such as ``"0.4"``.
        use: the replacement: ``"sparsact.swap"``.
        stacklevel: the frame that the warning points at. The default is the caller of the function
            that calls this one.

    Example:
        >>> import warnings
        >>> def swap_all():
        ...     warn_deprecated("sparsact.swap_all", removed_in="0.4", use="sparsact.swap")
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     swap_all()
        ...     swap_all()
        >>> [str(warning.message) for warning in caught]
        ['sparsact.swap_all will be removed in 0.4; use sparsact.swap']
    """
    warnings.warn(
        f"{name} will be removed in {removed_in}; use {use}",
        DeprecationWarning,
        stacklevel=stacklevel,
    )


def deprecated(
    name: str, *, removed_in: str, use: str
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function so that its first call warns; arguments as in :func:`warn_deprecated`."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def warns_first(*args: P.args, **kwargs: P.kwargs) -> R:
            warn_deprecated(name, removed_in=removed_in, use=use)
            return function(*args, **kwargs)

        return warns_first

    return decorate
