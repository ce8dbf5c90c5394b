"""The usual names of the three parts of a data set."""

from sparsact.compare.data.dataset import PARTS

PART_NAMES = {
    **dict.fromkeys(("train", "training", "fit", "learn"), PARTS[0]),
    **dict.fromkeys(("validation", "valid", "val", "dev", "eval"), PARTS[1]),
    **dict.fromkeys(("test", "testing", "holdout"), PARTS[2]),
}
"""A name in lower case → the part."""
