"""Used by every part of the package: errors, extras, progress, atomic files, run directories."""
