"""From a run, or an autoencoder and a text, to the records of its report."""

from sparsact.sae.reporting.write import SAEReport, write_report

__all__ = ["SAEReport", "write_report"]
