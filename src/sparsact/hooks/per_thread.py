"""State that each thread has for itself, since threads may run one model at the same time."""

import threading
from typing import Any


class PerThread(threading.local):
    """Attributes that each thread has for itself; copies and pickles begin anew."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle the object without its attributes."""
        return type(self), ()
