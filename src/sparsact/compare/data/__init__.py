"""Read a data set in the form that people have it, and split it into tensors."""

from sparsact.compare.data.dataset import Dataset, Part, SplitData, Task
from sparsact.compare.data.load import load
from sparsact.compare.data.reading import Reading
from sparsact.compare.data.split import split

__all__ = ["Dataset", "Part", "Reading", "SplitData", "Task", "load", "split"]
