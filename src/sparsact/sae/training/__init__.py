"""Training sparse autoencoders: the step, the loop, checkpoints and runs."""
