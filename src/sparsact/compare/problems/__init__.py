"""What is trained: a network, its data, loss and score, of a table or of the user."""
