"""A sparse autoencoder: how its training went, and what its latents answer to."""
