"""Each row of the table of features names a test that exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "sae_features.md").read_text(encoding="utf-8")
ROWS = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")]
ROWS = [row for row in ROWS if row[-1] != "test"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_has_its_test(row):
    named = re.fullmatch(r"`([^:`]+)(?:::(\w+))?`", row[-1])
    if named is None:  # not here: the row says so
        assert row[1] == "no"
        return
    file, name = named.groups()
    source = (ROOT / file).read_text(encoding="utf-8")
    if name is not None:
        assert re.search(rf"^\s*(def|class) {name}\b", source, re.MULTILINE)


def test_the_table_is_read():
    assert len(ROWS) > 45
    assert sum("`" not in row[-1] for row in ROWS) < 5
