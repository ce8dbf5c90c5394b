"""The compiled operations for the CPU: each checks and allocates, then calls C++ in ``csrc/``."""
