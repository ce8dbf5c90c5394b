"""Draw the package graph in CONTRIBUTING.md from the table that the architecture test enforces.

    python scripts/docs_rooms.py

A room stands above those that it may import. Imports that another one implies are left out.
"""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "CONTRIBUTING.md"
START, END = "<!-- rooms: start -->", "<!-- rooms: end -->"
Rooms = dict[str, set[str]]


def enforced_rooms() -> Rooms:
    """The table of tests/test_architecture.py, without rooms that do not exist."""
    file = ROOT / "tests" / "test_architecture.py"
    spec = importlib.util.spec_from_file_location("test_architecture", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    source = ROOT / "src" / "sparsact"
    there = {path.name.removesuffix(".py") for path in source.iterdir()}
    return {room: below & there for room, below in module.ROOMS.items() if room in there}


def drawing(rooms: Rooms) -> str:
    """The rooms by height, each with the highest rooms that it may import."""
    heights = {room: _height(room, rooms) for room in rooms}
    width = max(map(len, rooms))
    lines = []
    for height in range(max(heights.values()), -1, -1):
        for room in sorted(room for room in rooms if heights[room] == height):
            below = ", ".join(sorted(_direct(room, rooms)))
            lines.append(f"{room:{width}}  →  {below}" if below else room)
        lines.append("")
    return "\n".join(lines).rstrip()


def page_with(rooms: Rooms, text: str) -> str:
    """CONTRIBUTING.md with the drawing between its markers."""
    before, rest = text.split(START)
    after = rest.split(END)[1]
    return f"{before}{START}\n\n```text\n{drawing(rooms)}\n```\n\n{END}{after}"


def _height(room: str, rooms: Rooms) -> int:
    return 1 + max((_height(below, rooms) for below in rooms[room]), default=-1)


def _reached(room: str, rooms: Rooms) -> set[str]:
    return rooms[room].union(*(_reached(below, rooms) for below in rooms[room]))


def _direct(room: str, rooms: Rooms) -> set[str]:
    implied = set().union(*(_reached(below, rooms) for below in rooms[room]))
    return rooms[room] - implied


if __name__ == "__main__":
    PAGE.write_text(page_with(enforced_rooms(), PAGE.read_text(encoding="utf-8")), encoding="utf-8")
