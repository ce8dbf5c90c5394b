"""The text that comes with Python: its own reference, in two parts that have nothing in common."""

from pydoc_data.topics import topics


def reference_text() -> tuple[str, str]:
    """A text to calibrate on, and one to measure on: of every second topic each.

    A paragraph is taken once. Topics repeat each other word for word, and a quarter of the second
    text would otherwise stand in the first.
    """
    parts: tuple[list[str], list[str]] = ([], [])
    taken: set[str] = set()
    for number, name in enumerate(sorted(topics)):
        for paragraph in topics[name].split("\n\n"):
            words = " ".join(paragraph.split())
            if words and words not in taken:
                taken.add(words)
                parts[number % 2].append(paragraph)
    calibrated, held_out = ("\n\n".join(part) + "\n" for part in parts)
    return calibrated, held_out
