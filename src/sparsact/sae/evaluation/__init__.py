"""Measuring sparse autoencoders, alone and inside a language model."""
