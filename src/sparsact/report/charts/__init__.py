"""Drawings with axes as SVG: no script, no network, colours from the page's style sheet."""
