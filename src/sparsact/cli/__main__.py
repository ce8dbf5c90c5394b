"""``python -m sparsact.cli``."""

from sparsact.cli import main

main()
