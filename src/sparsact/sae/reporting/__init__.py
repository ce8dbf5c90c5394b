"""The report of a run, or of an autoencoder and a text."""

from sparsact.sae.reporting.report_writing import write_report

__all__ = ["write_report"]
