"""The version of the package, and nothing else: builds read this file without importing it."""

__version__ = "0.2.0"
