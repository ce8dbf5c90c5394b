"""The operations compiled by Numba for the CPU at hand, one family per file."""
