"""Cells of a CSV that must hold numbers."""

from sparsact._common.errors import InputError


def is_number(cell: str) -> bool:
    """Whether a cell holds a number.

    Example:
        >>> is_number(" 1e-3"), is_number("n/a")
        (True, False)
    """
    try:
        float(cell)
    except ValueError:
        return False
    return True


def number_in(cell: str, place: str, advice: str = "") -> float:
    """The number in a cell.

    Args:
        cell: its text.
        place: where it is, for the message.
        advice: the end of the message.

    Raises:
        InputError: the cell is empty or holds text.
    """
    try:
        return float(cell)
    except ValueError:
        fault = f"is text: {cell!r}" if cell.strip() else "is empty"
        raise InputError(f"{place} {fault}{advice}") from None
