"""The report of a comparison of activations."""
