"""The documentation: the Python of each page runs, and each marked place can be filled."""

import re
from pathlib import Path

import pytest

from docs_stand_ins import STAND_INS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {file.relative_to(DOCS).as_posix(): file for file in sorted(DOCS.rglob("*.md"))}
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks_of(page):
    return BLOCK.findall(PAGES[page].read_text(encoding="utf-8"))


@pytest.fixture
def scripts(monkeypatch):
    """The scripts of the documentation's build can be imported."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))


@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)])
def test_python_of_a_page(page, tmp_path, monkeypatch):
    """The blocks of a page, one after the other, are a program."""
    monkeypatch.chdir(tmp_path)
    names = STAND_INS[page]() if page in STAND_INS else {}
    for block in blocks_of(page):
        exec(compile(block, page, "exec"), names)


def test_every_stand_in_belongs_to_a_page():
    assert all(blocks_of(page) for page in STAND_INS)


@pytest.mark.parametrize("page", PAGES)
def test_marked_places_are_filled(page, scripts):
    from docs_hooks import MARKER, filled

    assert not MARKER.search(filled(PAGES[page].read_text(encoding="utf-8")))


def test_an_unknown_result_is_an_error(scripts):
    from docs_hooks import filled

    with pytest.raises(KeyError, match="no such key"):
        filled("<!-- generated: result sae_topk | no such key -->")
    with pytest.raises(KeyError, match="no_such_generator"):
        filled("<!-- generated: no_such_generator -->")


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [page for page in PAGES if f" {page}\n" not in navigation] == []


def test_every_result_is_on_the_page_of_results():
    page = PAGES["results.md"].read_text(encoding="utf-8")
    results = ROOT / "benchmarks" / "results"
    files = [file.stem for file in results.glob("*.json")]
    pictures = [file.name for file in results.glob("*.png")]
    assert files
    assert [name for name in files if f"<!-- generated: result {name} " not in page] == []
    assert [name for name in pictures if f"(results/{name})" not in page] == []


def test_every_example_is_in_the_gallery(scripts):
    from docs_gallery import EXAMPLES, GALLERY

    assert {file.stem for file in GALLERY.glob("*.png")} == {script.stem for script in EXAMPLES}
    assert {file.stem for file in GALLERY.glob("*.txt")} == {script.stem for script in EXAMPLES}


def test_the_package_graph_is_current(scripts):
    from docs_rooms import PAGE, enforced_rooms, page_with

    text = PAGE.read_text(encoding="utf-8")
    assert page_with(enforced_rooms(), text) == text, "run python scripts/docs_rooms.py"


def test_flags_in_shell_blocks_exist(scripts):
    """Each ``--flag`` of a ``sparsact`` command in a page is one that its ``--help`` lists."""
    from docs_verbs import help_text

    helps = {}
    for page, file in PAGES.items():
        for command in _commands(file.read_text(encoding="utf-8")):
            words = command.split()
            verb = tuple(words[1:3] if words[1] == "sae" else words[1:2])
            listed = helps.setdefault(verb, help_text(*verb))
            for flag in re.findall(r"(?<!\S)--[a-z][a-z0-9-]*", command):
                found = re.search(rf"(?<!\S){flag}[ ,]", listed)  # or "--flag, --no-flag"
                assert found, f"{page}: {' '.join(verb)} has no {flag}"
    assert {("compare",), ("sae", "train"), ("calibrate",), ("bench",), ("denoise",)} <= set(helps)


def _commands(text):
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            code = line.partition("#")[0].strip()
            if code.startswith("sparsact "):
                yield code
