"""The operations: the schema, the shapes of the outputs and the gradient of each."""
