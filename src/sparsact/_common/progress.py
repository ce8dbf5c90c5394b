"""How everything that takes long tells how far it is."""

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""Called with how much is done, of how much, and what is being done."""
