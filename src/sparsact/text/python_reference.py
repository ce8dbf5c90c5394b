"""The text that comes with Python: its own reference, split into two parts that share nothing."""

from pydoc_data.topics import topics


def reference_text() -> tuple[str, str]:
    """A text to calibrate on and one to measure on, each from every second topic.

    Each paragraph is used once: topics repeat each other word for word, so that otherwise a
    quarter of the second text would also be in the first.
    """
    parts: tuple[list[str], list[str]] = ([], [])
    known_paragraphs: set[str] = set()
    for number, name in enumerate(sorted(topics)):
        for paragraph in topics[name].split("\n\n"):
            words = " ".join(paragraph.split())
            if words and words not in known_paragraphs:
                known_paragraphs.add(words)
                parts[number % 2].append(paragraph)
    calibration, held_out = ("\n\n".join(part) + "\n" for part in parts)
    return calibration, held_out
