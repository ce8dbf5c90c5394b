"""How a data set is read: what the user says about its columns and its parts."""

from dataclasses import dataclass, fields
from typing import Any, Literal

from sparsact._common.errors import InputError


@dataclass(frozen=True)
class Reading:
    """What the user says about a data set; each field is an argument of a comparison.

    Attributes:
        ignore: columns to leave out, separated by commas.
        categories: columns of numbers to read as categories, separated by commas.
        missing: words that stand for a missing cell, separated by commas, besides the usual ones.
        decimal: the decimal mark of numbers.
        header: whether the first row holds the names of the columns.
        split: a column, or a file, that names the part of each row.
        group: a column whose groups are never split.
        time: a column whose last values are the test part.
    """

    ignore: str | None = None
    categories: str | None = None
    missing: str | None = None
    decimal: Literal["auto", "point", "comma"] = "auto"
    header: Literal["auto", "yes", "no"] = "auto"
    split: str | None = None
    group: str | None = None
    time: str | None = None

    @classmethod
    def of(cls, config: Any) -> "Reading":
        """The fields of the arguments of a comparison."""
        return cls(**{field.name: getattr(config, field.name) for field in fields(cls)})

    def check(self, is_table: bool, source: str) -> None:
        """Check that the arguments suit each other and the source.

        Raises:
            InputError: they do not.
        """
        chosen = [name for name in ("split", "group", "time") if getattr(self, name) is not None]
        if len(chosen) > 1:
            raise InputError(f"{chosen[0]}= and {chosen[1]}= exclude each other")
        if is_table:
            return
        for field in fields(self):
            if getattr(self, field.name) != field.default:
                raise InputError(f"{field.name}= is about a table; {source!r} is not one")


def names_in(text: str | None) -> list[str]:
    """The names in a list separated by commas."""
    return [] if text is None else [name.strip() for name in text.split(",") if name.strip()]
