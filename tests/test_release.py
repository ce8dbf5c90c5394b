"""What a release states in several files agrees."""

import re
from pathlib import Path

import sparsact

ROOT = Path(__file__).parents[1]


def text_of(file):
    return (ROOT / file).read_text(encoding="utf-8")


def test_the_version_stands_in_one_python_file():
    assert f'__version__ = "{sparsact.__version__}"' in text_of("src/sparsact/_version.py")
    project = text_of("pyproject.toml").partition("[project]")[2].partition("\n[")[0]
    assert 'dynamic = ["version"]' in project
    assert not re.search(r"^version", project, re.MULTILINE)


def test_the_citation_and_the_changelog_know_the_version():
    version = re.escape(sparsact.__version__)
    (date,) = re.findall(
        rf"^## \[{version}\] - (\d{{4}}-\d\d-\d\d)$", text_of("CHANGELOG.md"), re.MULTILINE
    )
    citation = text_of("CITATION.cff")
    assert re.search(rf"^version: {version}$", citation, re.MULTILINE)
    assert f"date-released: {date}" in citation


def test_changelog_sections_are_those_of_keep_a_changelog():
    sections = set(re.findall(r"^### (.*)$", text_of("CHANGELOG.md"), re.MULTILINE))
    assert sections <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
