"""Errors of the library become one line with flags; bugs keep their traceback."""

import sys
from dataclasses import dataclass, field
from typing import Annotated

import pytest
import tyro

from sparsact._common.errors import InputError, MissingExtraError
from sparsact.cli import main
from sparsact.cli.error_lines import error_line


@dataclass(frozen=True)
class Inner:
    learning_rate: float = 0.1


@dataclass(frozen=True)
class First:
    source: tyro.conf.Positional[str] = "digits"
    batch_size: int = 1
    force: bool = False
    flat: tyro.conf.OmitArgPrefixes[Inner] = field(default_factory=Inner)


@dataclass(frozen=True)
class Second:
    out: tyro.conf.Positional[str] = "here"
    optimizer: Inner = field(default_factory=Inner)


def single(config: tyro.conf.OmitArgPrefixes[First]) -> int:
    raise AssertionError(config)


def several(
    command: tyro.conf.OmitSubcommandPrefixes[
        Annotated[First, tyro.conf.subcommand("train")]
        | Annotated[Second, tyro.conf.subcommand("export")]
    ],
) -> int:
    raise AssertionError(command)


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("batch_size= must be at least 1", "--batch-size must be at least 1"),
        ("batch_size=0 is too small", "--batch-size 0 is too small"),
        ("it exists;\n overwrite it with force=True", "it exists; overwrite it with --force"),
        ("(learning_rate=): too large", "(--learning-rate): too large"),
        ("source= is no flag, and unknown=3 neither", "source= is no flag, and unknown=3 neither"),
        ("got 'force=1', /a/force=1 and --force=1", "got 'force=1', /a/force=1 and --force=1"),
    ],
)
def test_arguments_become_flags(message, line):
    assert error_line(InputError(message), single) == line


def test_a_subcommand_has_its_own_flags():
    error = InputError("out= learning_rate= batch_size=")
    assert error_line(error, several, ["train"]) == "out= --learning-rate --batch-size"
    line = "out= --optimizer.learning-rate batch_size="
    assert error_line(error, several, ["export", "there"]) == line


def run(monkeypatch, error):
    def verb(config: tyro.conf.OmitArgPrefixes[First]) -> int:
        raise error

    monkeypatch.setattr(sys, "argv", ["sparsact", "verb", "--batch-size", "2"])
    main({"verb": verb, "unused": single})


@pytest.mark.parametrize("error", [RuntimeError("bug"), ValueError("bug"), OSError("bug")])
def test_a_bug_keeps_its_traceback(monkeypatch, error):
    with pytest.raises(type(error), match="bug"):
        run(monkeypatch, error)


@pytest.mark.parametrize("kind", [InputError, MissingExtraError])
def test_an_error_of_the_library_is_one_line(monkeypatch, capsys, kind):
    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, kind("batch_size= [/] is\nwrong"))
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: --batch-size [/] is wrong\n"


def test_an_interruption_has_the_status_of_the_shell(monkeypatch):
    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, KeyboardInterrupt())
    assert caught.value.code == 130
