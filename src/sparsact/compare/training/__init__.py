"""One training, and the engine that runs them all."""
