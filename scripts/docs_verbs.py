"""The table of the command line's verbs, read from its own ``--help``."""

import contextlib
import io
import os
import re
import sys

from sparsact.cli import VERBS, main

VERB = re.compile(r"•\s+(\S+)\s{2,}(.*?)[\s│]*$", re.MULTILINE)
WIDE = "400"
"""Columns of the help text, so that no description is wrapped."""


def verb_table(_: str = "") -> str:
    """A row for each verb and, where a verb has its own verbs, for each of those."""
    lines = ["| command | what it does |", "|---|---|"]
    for verb, description in _described():
        inner = _described(verb)
        rows = [(f"{verb} {name}", text) for name, text in inner] or [(verb, description)]
        lines += [f"| `sparsact {name}` | {text} |" for name, text in rows]
    return "\n".join(lines)


def _described(*verb: str) -> list[tuple[str, str]]:
    """The verbs that ``sparsact VERB --help`` lists, with their first sentences."""
    listed = VERB.findall(help_text(*verb))
    if not verb and {name for name, _ in listed} != set(VERBS):
        raise ValueError(f"--help lists {listed}, and the verbs are {sorted(VERBS)}")
    return listed


def help_text(*verb: str) -> str:
    """What ``sparsact VERB --help`` prints."""
    arguments, columns = sys.argv, os.environ.get("COLUMNS")
    printed = io.StringIO()
    sys.argv = ["sparsact", *verb, "--help"]
    os.environ["COLUMNS"] = WIDE
    try:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            main()
    finally:
        sys.argv = arguments
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns
    return printed.getvalue()
