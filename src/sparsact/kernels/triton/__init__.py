"""The operations on a GPU, written in Triton. The first call on a GPU imports them."""
