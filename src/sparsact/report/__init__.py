"""Showing results: records in, a page and pictures out. Knows nothing of models."""
