"""The operations in plain torch: the specification, and the path of every other device."""
