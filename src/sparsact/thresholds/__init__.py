"""The thresholds: one a file, with its function, its autograd function and its module.

`sparsact.functional` and `sparsact.nn` are the public paths.
"""
