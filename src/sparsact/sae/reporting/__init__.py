"""The report of a run, or of an autoencoder and a text."""

from sparsact.sae.reporting.sae_report import write_report

__all__ = ["write_report"]
