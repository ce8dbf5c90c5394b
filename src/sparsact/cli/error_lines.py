"""From an exception of the library to one line on the terminal that names the flags."""

import dataclasses
import re
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, get_args, get_origin, get_type_hints

import tyro
from rich.console import Console
from rich.markup import escape

from sparsact._common.errors import SparsactError

FAILED = 2
INTERRUPTED = 128 + signal.SIGINT  # the shell's convention

_POSITIONAL, _NO_PREFIX = (
    get_args(mark[int])[1] for mark in (tyro.conf.Positional, tyro.conf.OmitArgPrefixes)
)


def print_error(message: str) -> None:
    """Print one line on standard error."""
    Console(stderr=True, highlight=False).print(
        f"[bold red]error:[/] {escape(message)}", soft_wrap=True
    )


@contextmanager
def warnings_on_one_line() -> Iterator[None]:
    """Print each warning as one line on standard error, without its place in the code."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        Console(stderr=True, highlight=False).print(
            f"[bold yellow]warning:[/] {escape(str(message))}", soft_wrap=True
        )

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def error_line(error: SparsactError, verb: Callable[..., Any], words: Sequence[str] = ()) -> str:
    """The message on one line, with the flags of a verb in place of the library's arguments.

    Args:
        error: its message names an argument as ``name=`` or ``name=value``.
        verb: a function whose parameters are the dataclasses that hold its flags.
        words: the command line after the verb; a subcommand among them picks its flags.
    """
    return with_flags(str(error), verb, words)


def with_flags(message: str, verb: Callable[..., Any], words: Sequence[str] = ()) -> str:
    """A message of the library on one line, as `error_line` shows it."""
    flags = {
        name: flag
        for parameter, hint in get_type_hints(verb, include_extras=True).items()
        if parameter != "return"
        for name, flag in _flags(hint, "", words)
    }
    return _replace_names(" ".join(message.split()), flags)


def _replace_names(message: str, flags: dict[str, str]) -> str:
    """``name=value`` becomes ``--name value``; text in quotes and other names stay."""

    def replacement(match: re.Match[str]) -> str:
        name, value = match.groups()
        if name not in flags:
            return match[0]
        if not value or value == "True":
            return flags[name]
        if value == "False":
            before, dot, last = flags[name].removeprefix("--").rpartition(".")
            return f"--{before}{dot}no-{last}"
        return f"{flags[name]} {value}"

    return re.sub(r"(?<![\w'\"/.=:-])([a-z]\w*)=([^\s,;:)]*)", replacement, message)


def _flags(hint: Any, prefix: str, words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The (name, flag) pairs of a type: a dataclass, nested ones, or a union of subcommands."""
    kind, marks = _unwrapped(hint)
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind, include_extras=True)
        for field in dataclasses.fields(kind):
            field_kind, field_marks = _unwrapped(hints[field.name])
            if dataclasses.is_dataclass(field_kind):
                is_flat = any(mark is _NO_PREFIX for mark in (*marks, *field_marks))
                nested = "" if is_flat else f"{prefix}{field.name}."
                yield from _flags(hints[field.name], nested, words)
            elif not any(mark is _POSITIONAL for mark in field_marks):
                yield field.name, f"--{prefix}{field.name}".replace("_", "-")
    elif get_origin(kind) is not None:
        members = get_args(kind)
        chosen = [member for member in members if _subcommand(member) in words]
        for member in chosen or members:
            yield from _flags(member, prefix, words)


def _unwrapped(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type without its annotations, and the annotations."""
    return (hint.__origin__, hint.__metadata__) if hasattr(hint, "__metadata__") else (hint, ())


def _subcommand(member: Any) -> str | None:
    """The name of a subcommand, if the member of a union is one."""
    return next((mark.name for mark in _unwrapped(member)[1] if hasattr(mark, "name")), None)
