"""Autoencoders in a running model: reading, replacing, editing and steering activations."""
