"""The compiled operations for the CPU; the first call of an operation imports its file."""
