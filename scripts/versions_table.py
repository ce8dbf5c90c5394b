"""Adds one run of the tests that depend on versions to docs/versions.json and docs/versions.md.

Run by the Python of the environment that the tests ran in, after them.
"""

import datetime
import importlib.metadata
import json
import platform
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

DOCS = Path(__file__).parents[1] / "docs"
PACKAGES = ("torch", "transformers", "accelerate", "lightning", "numpy", "scikit-learn")
START, END = "<!-- tested: start -->", "<!-- tested: end -->"


def result_of(file: Path) -> dict[str, Any]:
    """What pytest counted, the names of what failed, and the versions of this environment."""
    cases = list(ElementTree.parse(file).getroot().iter("testcase"))
    outcomes = [
        next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), "")
        for case in cases
    ]
    count = Counter(outcomes)
    failed = [
        f"{case.get('classname')}.{case.get('name')}"
        for case, outcome in zip(cases, outcomes, strict=True)
        if outcome in ("failure", "error")
    ]
    return {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "versions": {package: _version(package) for package in PACKAGES},
        "passed": count[""],
        "skipped": count["skipped"],
        "failed": failed,
    }


def table(results: dict[str, dict[str, Any]]) -> str:
    """A row for each environment."""
    lines = [
        "| environment | date | Python | " + " | ".join(PACKAGES) + " | passed | failed |",
        "|---" * (len(PACKAGES) + 5) + "|",
    ]
    for name, result in sorted(results.items()):
        cells = [name, result["date"], result["python"]]
        cells += [result["versions"].get(package) or "–" for package in PACKAGES]
        cells += [str(result["passed"]), str(len(result["failed"]))]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def main() -> None:
    """Write both files: ``versions_table.py NAME RESULTS.xml``."""
    name, file = sys.argv[1:]
    record = DOCS / "versions.json"
    results = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    results[name] = result_of(Path(file))
    record.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    page = DOCS / "versions.md"
    text = page.read_text(encoding="utf-8")
    head, tail = text.partition(START)[0], text.partition(END)[2]
    page.write_text(f"{head}{START}\n{table(results)}\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
