"""The threshold functions, one family per file; :mod:`sparsact.functional` is their public face."""
