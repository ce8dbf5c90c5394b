"""The table of the formats that ``sparsact denoise`` reads and writes, from their declarations."""

from sparsact.denoise.files import FORMATS


def format_table(_: str = "") -> str:
    """A row for each format: its suffixes, library, extra, and what of a file is kept."""
    lines = [
        "| format | files | read by | extra | kept | not kept |",
        "|---|---|---|---|---|---|",
    ]
    for known in FORMATS:
        suffixes = ", ".join(f"`{suffix}`" for suffix in known.suffixes)
        extra = f"`{known.extra}`" if known.extra else "–"
        cells = (known.name, suffixes, known.library, extra, known.keeps, known.loses)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
