"""Run the command line as ``python -m sparsact.cli``."""

from sparsact.cli import main

main()
