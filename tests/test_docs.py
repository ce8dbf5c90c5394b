"""The Python in the guides runs, page by page."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
WHOLE = ("index", "thresholds", "penalties", "meters", "inference", "denoising")
"""Guides whose blocks, one after the other, are a program; others show excerpts."""


@pytest.mark.parametrize("page", WHOLE)
def test_python_of_a_guide(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    names = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
