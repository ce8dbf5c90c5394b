"""What every part of the package may use: errors, extras, progress, atomic files."""
