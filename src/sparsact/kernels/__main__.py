"""``python -m sparsact.kernels``: show what runs each operation on this machine."""

import os

import torch

from sparsact import kernels
from sparsact.kernels.cpu import library


def main() -> None:
    """Print a line for each operation, then the threads and the file of the compiled kernels."""
    print(f"{'operation':<22}on the CPU")
    for operation, backend in sorted(kernels.backends().items()):
        print(f"{operation:<22}{backend}")
    print(f"\nthreads: {torch.get_num_threads()} (torch.get_num_threads(), {os.cpu_count()} cores)")
    print(f"compiled kernels: {library.PATH or 'none for this machine'}")


if __name__ == "__main__":
    main()
