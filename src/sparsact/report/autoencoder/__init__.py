"""The report of a sparse autoencoder: curves of its training, and dashboards of its latents."""
