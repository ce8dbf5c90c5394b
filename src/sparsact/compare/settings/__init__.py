"""What is compared: activations, penalties, and the list of settings to train."""
